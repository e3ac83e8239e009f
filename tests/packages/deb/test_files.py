"""Content of packages is ready, whole, for whoever waits for it; what is damaged is told by its name."""

from __future__ import annotations

import fcntl
import tarfile
from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.packages.deb import files
from pipeline.run import run
from tests.debmirror import deb as make_deb

_MEMBER = f"{'debian-binary':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{4:<10}`\n".encode() + b"2.0\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", b"!<arch>\n" + _MEMBER + b"cut", b"!<arch>\n" + bytes(60), b"!<arch>\n" + b"\xff" * 60],
    ids=["empty", "other", "cut", "zeros", "no-text"],
)
def test_what_is_damaged_is_told(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "mine_1_all.deb"
    file.write_bytes(data)
    with (
        pytest.raises(BuildError, match=r"mine_1_all\.deb is no package"),
        files.decompressing([file], tmp_path / "out"),
    ):
        pass


@pytest.mark.parametrize("kind", ["none", "gzip", "xz", "zstd"])
def test_content_is_whole_for_who_takes_its_lock(tmp_path: Path, kind: str) -> None:
    plain = make_deb(tmp_path, "odd", "1", files={"usr/share/odd/x": "xyz", "usr/share/odd/y": "y" * 9_999_999})
    run(["dpkg-deb", "--raw-extract", plain, tmp_path / "tree"])
    packed = tmp_path / kind / plain.name
    packed.parent.mkdir()
    run(["dpkg-deb", f"-Z{kind}", "--build", tmp_path / "tree", packed])
    ready = tmp_path / "ready"
    with files.decompressing([packed], ready), (ready / packed.name).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        with tarfile.open(fileobj=file) as tar:
            content = tar.extractfile("./usr/share/odd/y")
            assert content and content.read() == b"y" * 9_999_999


def test_a_cut_package_is_told_before_what_dpkg_says_of_it(tmp_path: Path) -> None:
    made = make_deb(tmp_path, "odd", "1", files={"usr/share/odd/x": "xyz" * 999})
    run(["dpkg-deb", "--raw-extract", made, tmp_path / "tree"])
    run(["dpkg-deb", "-Zxz", "--build", tmp_path / "tree", made])
    data = bytearray(made.read_bytes())
    data[-40:-30] = bytes(10)
    made.write_bytes(data)
    with (
        pytest.raises(BuildError, match=r"odd_1_all\.deb is no package"),
        files.decompressing([made], tmp_path / "out"),
    ):
        raise BuildError("dpkg is surprised")
