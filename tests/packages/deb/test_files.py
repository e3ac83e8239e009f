"""Package files that are damaged are told by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.packages.deb import files

_MEMBER = f"{'debian-binary':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{4:<10}`\n".encode() + b"2.0\n"


@pytest.mark.parametrize(
    "data",
    [b"", b"no archive", b"!<arch>\n" + _MEMBER + b"cut", b"!<arch>\n" + bytes(60), b"!<arch>\n" + b"\xff" * 60],
    ids=["empty", "other", "cut", "zeros", "no-text"],
)
def test_what_is_damaged_is_told(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "mine_1_all.deb"
    file.write_bytes(data)
    with pytest.raises(BuildError, match=r"mine_1_all\.deb is no package"):
        files.unpacked([file], tmp_path / "out")
