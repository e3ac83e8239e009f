"""What RPM files say of themselves, by this machine's rpm(8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CommandError
from pipeline.run import run

#: Files that rpm is asked for at once, and seconds for that.
_AT_ONCE, _DEADLINE = 200, 600
#: How each file begins; rpm would take a text for a list of packages.
_MAGIC = b"\xed\xab\xee\xdb"
_FORMAT = "%{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH} %|SOURCEPACKAGE?{source}:{binary}|\\n"


@dataclass(frozen=True)
class Header:
    """`evr` is [EPOCH:]VERSION-RELEASE as in a lock: an epoch of 0 is none."""

    name: str
    evr: str
    architecture: str
    is_source: bool

    def __str__(self) -> str:
        return f"{self.name} {self.evr} {self.architecture}"


def headers(files: Sequence[Path]) -> Iterator[Header]:
    """Those of the files, in their order; no name may hold what rpm takes for a pattern.  Raises CommandError where one
    is no package that rpm can read."""
    for first in range(0, len(files), _AT_ONCE):
        part = files[first : first + _AT_ONCE]
        for file in part:
            with file.open("rb") as stream:
                if stream.read(len(_MAGIC)) != _MAGIC:
                    raise CommandError(f"{file.name} does not begin as packages do")
        done = run(["rpm", "-qp", "--nosignature", "--qf", _FORMAT, *part], timeout=_DEADLINE)
        lines = [line.split() for line in done.stdout.splitlines()]
        if len(lines) != len(part) or any(len(words) != 4 for words in lines):
            raise CommandError(f"rpm tells of {len(lines)} packages in {len(part)} files")
        for name, evr, architecture, kind in lines:
            yield Header(name, evr.removeprefix("0:"), architecture, kind == "source")
