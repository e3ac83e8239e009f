"""What a try brings is what the layers of today's recipes hold, and nothing besides."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard

from pipeline import listing
from pipeline.cluster.carrying import Load, archive, services
from pipeline.errors import BuildError
from pipeline.guests import debian, fedora_core
from pipeline.inventory import Entry
from pipeline.layers.cache import LIST
from pipeline.layers.stacking import LAYER


def layer(folder: Path, files: dict[str, str]) -> dict[str, Entry | None]:
    """A layer with these files; one whose text begins with "= " is another name of a file."""
    folder.mkdir()
    stream = io.BytesIO()
    changes: dict[str, Entry | None] = {}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.mode, member.uid, member.mtime = 0o4755, 7, 5
            member.pax_headers = {"SCHILY.xattr.security.capability": "set"}
            if text.startswith("= "):
                member.type, member.linkname = tarfile.LNKTYPE, text[2:]
            else:
                member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
            changes[name] = Entry("f", 0o4755, 7, 0, 5, member.size)
    (folder / LAYER).write_bytes(zstandard.ZstdCompressor().compress(stream.getvalue()))
    (folder / LIST).write_text(listing.dump(changes))
    return changes


def load(tmp_path: Path, paths: set[str]) -> Load:
    """Over a layer with `below` and `both`, one with all else."""
    under = layer(tmp_path / "below", {"etc/below": "below", "etc/both": "below"})
    over = layer(tmp_path / "over", {"etc/both": "over", "etc/one": "one", "etc/other": "= etc/one", "etc/not": "not"})
    changes = {**over, "etc/gone": None, "etc/systemd/system/gone.service": None}
    target: Any = SimpleNamespace(
        membership="compute",
        layer=SimpleNamespace(changes=changes),
        lower=lambda: [tmp_path / "below"],
        upper=lambda: [tmp_path / "over"],
        at=lambda path: changes[path] if path in changes else under.get(path),
    )
    return Load(target, frozenset(paths), frozenset({"munge", "chrony"}))


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def text(data: bytes, name: str) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read().decode()


def test_a_stream_holds_what_changes_as_the_layers_have_it(tmp_path: Path) -> None:
    wanted = {"etc/both", "etc/below", "etc/one", "etc/other", "etc/gone", "etc/systemd/system/gone.service"}
    data = archive([load(tmp_path, wanted)], debian.GUEST)
    assert text(data, "compute/root/etc/both") == "over"
    assert text(data, "compute/root/etc/below") == "below", "what no OPKG changes any more"
    assert text(data, "compute/names").split("\0") == ["etc/below", "etc/both", "etc/one", "etc/other", ""]
    assert text(data, "compute/removed").split("\0") == ["etc/systemd/system/gone.service", "etc/gone", ""]
    assert text(data, "compute/services") == "chrony\nmunge\n"
    found = members(data)
    assert "compute/root/etc/not" not in found
    assert "compute/gone/etc/systemd/system/gone.service" in found
    one, other = found["compute/root/etc/one"], found["compute/root/etc/other"]
    assert (one.mode, one.uid, one.mtime, other.linkname) == (0o4755, 7, 5, one.name)
    assert one.pax_headers["SCHILY.xattr.security.capability"] == "set"


def test_what_no_layer_has_is_told(tmp_path: Path) -> None:
    given = load(tmp_path, {"etc/one"})
    object.__setattr__(given.target, "at", lambda path: Entry("f", 0o644))
    with pytest.raises(BuildError, match="no layer has /etc/nowhere"):
        archive([Load(given.target, frozenset({"etc/nowhere"}), frozenset())], debian.GUEST)


def test_services_are_those_that_opkgs_name(tmp_path: Path) -> None:
    scripts = tmp_path / "opkgs/tool/scripts"
    scripts.mkdir(parents=True)
    (scripts / "server-post-install").write_text(
        "#!/bin/sh\necho ssh >/etc/pdsh\nsystemctl --quiet enable \\\n    munge.service slurmctld.service\n"
    )
    (scripts / "old").write_text("chkconfig --add acpid\n")
    files = ["opkgs/tool/scripts/server-post-install", "opkgs/tool/scripts/old", "opkgs/other/scripts/x"]
    files += ["opkgs/tool/files/server/etc/systemd/system/toold.service", "opkgs/tool/files/server/etc/init.d/oldd"]
    brought = ["etc/systemd/system/ganglia-monitor.service.d/oscar.conf", "etc/motd"]
    found = services(["tool"], files, brought, tmp_path, debian.GUEST)
    assert {"munge", "slurmctld", "toold", "ganglia-monitor"} <= found
    assert found.isdisjoint({"ssh", "acpid", "oldd", "motd"})
    older = services(["tool"], files, [], tmp_path, fedora_core.GUEST)
    assert {"acpid", "oldd"} <= older and older.isdisjoint({"munge", "toold", "ssh"})
