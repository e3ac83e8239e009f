"""Where files of an OPKG go in a root."""

from __future__ import annotations

from pipeline.opkgs.places import in_root


def test_what_is_more_particular_goes_over_what_is_for_all() -> None:
    files = [
        "files/common/etc/a",
        "files/common/etc/b",
        "files/common-systemd/etc/b",
        "files/common-systemd/etc/c",
        "files/server/etc/c",
        "files/server-systemd/etc/d",
        "files/client/etc/a",
        "scripts/server-post-install",
    ]
    assert in_root(files, "server") == {
        "/etc/a": "files/common/etc/a",
        "/etc/b": "files/common-systemd/etc/b",
        "/etc/c": "files/server/etc/c",
        "/etc/d": "files/server-systemd/etc/d",
    }
    assert in_root(files, "client")["/etc/a"] == "files/client/etc/a"
