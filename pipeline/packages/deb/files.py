"""Package files made ready for dpkg: decompressed side by side, which dpkg alone does one after the other.

A .deb is an `ar` archive of three members.  What installs them reads each twice at most and throws them away, so
they are written to scratch space without compression: the same package, three times as large.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from pipeline.errors import BuildError
from pipeline.packages import unpacking
from pipeline.run import run, spawn

_MAGIC = b"!<arch>\n"
_HEADER = 60
_BLOCK = 1 << 20


def unpacked(files: Sequence[Path], folder: Path) -> None:
    """Put each package into `folder` under its name, its content not compressed."""
    folder.mkdir()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done in [threads.submit(_unpack, file, folder / file.name) for file in files]:
            done.result()


def content(file: Path) -> tuple[int, int]:
    """Where the tar stream of a package that `unpacked` wrote begins, and how long it is."""
    with file.open("rb") as deb:
        for name, offset, size in _members(deb, file):
            if name == "data.tar":
                return offset, size
    raise BuildError(f"{file.name}: not a package without compression")


def _unpack(source: Path, target: Path) -> None:
    with source.open("rb") as deb, target.open("wb") as plain:
        plain.write(_MAGIC)
        for name, offset, size in _members(deb, source):
            if name.startswith("data.tar"):
                continue
            plain.write(_header(name, size))
            deb.seek(offset)
            plain.write(deb.read(size) + b"\n" * (size % 2))
        start = plain.tell()
        plain.write(_header("data.tar", 0))
        plain.flush()
        with spawn(["dpkg-deb", "--fsys-tarfile", source], stdout=plain) as process:
            if process.wait() != 0:
                raise BuildError(f"{source.name} is no package that dpkg-deb can read")
        size = plain.seek(0, os.SEEK_END) - start - _HEADER
        plain.write(b"\n" * (size % 2))
        plain.seek(start)
        plain.write(_header("data.tar", size))


def _members(deb: IO[bytes], file: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of each member of an `ar` archive."""
    deb.seek(0)
    if deb.read(len(_MAGIC)) != _MAGIC:
        raise BuildError(f"{file.name} is no package")
    position = len(_MAGIC)
    while header := deb.read(_HEADER):
        digits = header[48:58].strip()
        if not digits.isdigit():
            raise BuildError(f"{file.name} is no package: its archive is damaged", hint="it was not copied to its end")
        size = int(digits)
        yield header[:16].decode("latin-1").strip().rstrip("/"), position + _HEADER, size
        position += _HEADER + size + size % 2
        deb.seek(position)


def _header(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode()


def extract(files: Sequence[Path], root: Path) -> None:
    """Unpack packages that `unpacked` wrote into a tree, past the package database; (mapped) root can."""
    streams = [(str(file), content(file)[0]) for file in files]
    run([sys.executable, "-I", "-S", unpacking.__file__, root], input=json.dumps(streams).encode())
