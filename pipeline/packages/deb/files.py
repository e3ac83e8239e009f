"""Package files made ready for dpkg: decompressed side by side and ahead of it; alone it does one after the other.

dpkg gets a package's content from `dpkg-deb --fsys-tarfile`, whatever program of that name it finds first.  Ours gives
what lies ready, and waits for what is still on its way: so both processors work while packages are installed.
"""

from __future__ import annotations

import bz2
import contextlib
import fcntl
import gzip
import json
import lzma
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from pipeline.errors import BuildError
from pipeline.packages import unpacking
from pipeline.run import run

#: Where dpkg finds what `decompressing` makes, and the program that gives it.
READY = "/run/ready"
PROGRAMS = f"{READY}/bin"

_DPKG_DEB = f"""#!/bin/sh
# Content that is decompressed once, ahead of dpkg; its lock is held until it is whole.
if [ "$1" = --fsys-tarfile ]; then
    for file; do :; done
    file="{READY}/${{file##*/}}"
    [ ! -f "$file" ] || exec flock --shared "$file" cat "$file"
fi
exec /usr/bin/dpkg-deb "$@"
"""

_MAGIC = b"!<arch>\n"
_HEADER = 60
#: Bytes that are decompressed at a time.
_PIECE = 4 << 20
#: Files that are open at a time, far below what a process may have open.
_OPEN = 500


@contextlib.contextmanager
def decompressing(files: Sequence[Path], folder: Path) -> Iterator[None]:
    """Put each package's content into `folder` under its name, in the order given: a tar stream, whole when nobody
    has its lock alone; all are by the end of the block."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "dpkg-deb").write_text(_DPKG_DEB)
    (programs / "dpkg-deb").chmod(0o755)
    made: list[Future[None]] = []
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        try:
            for file in files:
                if len(made) >= _OPEN:
                    made[-_OPEN].exception()
                target = (folder / file.name).open("wb")
                fcntl.flock(target, fcntl.LOCK_EX)
                made.append(threads.submit(_decompress, file, target))
            yield
        except Exception:
            threads.shutdown(cancel_futures=True)
            _require(made)  # which says more than what dpkg says of a package that is cut
            raise
        _require(made)


def _require(made: Sequence[Future[None]]) -> None:
    for done in made:
        if not done.cancelled():
            done.result()


def _decompress(source: Path, target: IO[bytes]) -> None:
    with target, source.open("rb") as deb:
        try:
            for piece in _content(deb, source):
                target.write(piece)
        except (lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
            raise BuildError(f"{source.name} is no package: {error}", hint="it was not copied to its end") from None


def _content(deb: IO[bytes], file: Path) -> Iterator[bytes]:
    """A package's content, piece by piece; see deb(5)."""
    for name, offset, size in _members(deb, file):
        if name.startswith("data.tar"):
            deb.seek(offset)
            data = deb.read(size)
            match name.removeprefix("data.tar"):
                case ".xz" | ".lzma":
                    return _pieces(data, lzma.LZMADecompressor)
                case ".bz2":
                    return _pieces(data, bz2.BZ2Decompressor)
                case ".gz":
                    return iter([gzip.decompress(data)])
                case ".zst":
                    import zstandard  # Ubuntu's packages alone

                    return zstandard.ZstdDecompressor().read_to_iter(data)
                case "":
                    return iter([data])
            raise BuildError(f"{file.name}: nothing here reads {name}")
    raise BuildError(f"{file.name} is no package: it has no content")


def _pieces(data: bytes, kind: type[lzma.LZMADecompressor | bz2.BZ2Decompressor]) -> Iterator[bytes]:
    """One stream after the other, in large pieces: with small ones threads would wait for each other."""
    while data:
        stream = kind()
        yield stream.decompress(data, _PIECE)
        while not stream.eof:
            if stream.needs_input:
                raise EOFError("it ends too early")
            yield stream.decompress(b"", _PIECE)
        data = stream.unused_data


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


def extract(files: Sequence[Path], root: Path) -> None:
    """Unpack what `decompressing` makes into a tree, past the package database; (mapped) root can."""
    streams = [(str(file), 0) for file in files]
    run([sys.executable, "-I", "-S", unpacking.__file__, root], input=json.dumps(streams).encode())
