"""What OPKGs bring to machines that run is what builders put into roots."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from pipeline.opkgs import folders, payload
from pipeline.opkgs.phases import Side
from pipeline.sandbox import SOURCE_DATE_EPOCH
from tests.boot import latecomers


def test_both_sides_get_their_own(tmp_path: Path) -> None:
    latecomers.write(tmp_path / "opkgs")
    folder = tmp_path / "opkgs/late"
    (folder / "files/client/etc/link").symlink_to("late.conf")
    (folder / "files/client/etc/late.conf").write_text("the nodes' own")
    (folder / "secrets").write_text("/etc/late.key 16\n")
    for place in ("a/x.deb", "b/x.deb"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text("x")
    (tmp_path / "key").write_text("secret")
    opkg = folders.load(folder)
    found = {}
    sides: tuple[Side, ...] = ("server", "client")
    for side in sides:
        data = payload.archive(
            [opkg], side, "systemd", sorted(tmp_path.glob("?/x.deb")), {"/etc/late.key": tmp_path / "key"}
        )
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = tar.getmembers()
            assert {(one.uid, one.gid, one.mtime) for one in members} == {(0, 0, SOURCE_DATE_EPOCH)}
            found[side] = {one.name: (one.mode, one.linkname) for one in members}
            text = tar.extractfile("late/root/etc/late.conf")
            assert text and text.read() == {"server": b"late", "client": b"the nodes' own"}[side]
    server, client = found["server"], found["client"]
    assert server["late/home/scripts/api-pre-install"][0] == 0o755, "by today's name"
    assert "late/home/scripts/client-post-uninstall" in client
    assert "late/home/scripts/api-post-deploy" not in client
    assert client["late/root/etc/link"][1] == "late.conf"
    assert "late/root/etc/motd" in client and "late/root/etc/motd" not in server
    assert client["late/root/etc/late.key"][0] == 0o600
    assert ".packages/x.deb" in server
    assert len(payload.scripts(opkg)) == len(latecomers.PHASES) == 14
