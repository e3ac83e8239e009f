"""Tarballs of trees as many zstd frames, of which those that an earlier tarball has are taken over.

Whatever reads zstd reads frames one after the other as one stream.  Each frame holds whole members, or a part of a
large file.  Where one begins is told by the names and sizes near it, so a changed file changes the one or two frames
around it and all others stay what they were.

The result is a function of the tree alone, whether an earlier tarball is at hand or not: which frames there are is told
by the inventory, and a frame is known by the SHA-256 over all that its bytes are made of: every field of its members
that reaches them, SHA-256 of their content, the compressor, and this code.  Beside a tarball lies its index, a line a
frame: key, length in bytes, SHA-256 of the frame.  The latter is compared before a frame is taken over; one that has
rotted is made anew.  There is no other cache: only what the same task made last is looked at, which lies in the store
for everybody to read and for no builder to write.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import zstandard

from pipeline import inventory
from pipeline.digests import canonical
from pipeline.layers import members
from pipeline.layers.members import Part, Reader

#: Level 3 takes a second for 400 MB; more takes much longer and saves little.
_LEVEL = 3
#: Threads that compress and compare; their number changes no byte.
_THREADS = 2
#: A frame ends at the next name that is chosen (one of so many is) when it has the first number of bytes, and in any
#: case with the second.  Frames of 1 to 2 MiB take half a percent more than one for all.
_LEAST, _MOST, _ONE_OF = 1 << 20, 8 << 20, 32
#: Bytes that a member's header takes, as far as that matters here.
_HEADER = 512

#: Bytes that are taken over at a time: they stay in a processor's cache.
_CHUNK = 1 << 18

#: Frames that are made ahead of the one that is written.
_AHEAD = 2 * _THREADS

#: A line of an index.
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9]{1,9}) ([0-9a-f]{64})")

#: The parts that a frame holds; one without any is the end.
Frame = tuple[Part, ...]


def index(tarball: Path) -> Path:
    """Where the index of a tarball lies."""
    return tarball.with_name(f"{tarball.name}.frames")


def write(tree: inventory.Tree, root: Path, tarball: Path, former: Path | None = None) -> None:
    """Write a tarball of the tree at `root`, of which `tree` is the inventory, and its index.

    `former` is an earlier tarball, or none.  BuildError if `root` holds something else than `tree` says: with
    an earlier tarball little of it is read, and that is compared with its digests.
    """
    lines = []
    with Reader(root, suspicious=former is not None) as reader, _Former(former) as kept, tarball.open("wb") as file:
        for made in _made(cut(members.parts(tree)), reader, kept):
            for data in kept.read(made) if made.data is None else [made.data]:
                file.write(data)
            lines.append(f"{made.key} {made.length} {made.sha256}\n")
    index(tarball).write_text("".join(lines))


def cut(parts: Iterable[Part]) -> Iterator[Frame]:
    """The frames of a tarball, the last one its end."""
    frame: list[Part] = []
    size = 0
    for part in parts:
        if size >= _MOST or (size >= _LEAST and _is_chosen(part.member.path)):
            yield tuple(frame)
            frame, size = [], 0
        frame.append(part)
        size += _HEADER + part.end - part.start
    if frame:
        yield tuple(frame)
    yield ()


def _is_chosen(path: str) -> bool:
    return hashlib.sha256(os.fsencode(path)).digest()[0] % _ONE_OF == 0


def key(frame: Frame) -> str:
    """What a frame is known by: the same key, the same bytes."""
    return hashlib.sha256(_writer() + canonical(frame)).hexdigest()


@functools.cache
def _writer() -> bytes:
    """All but its parts that a frame's bytes depend on."""
    digest = hashlib.sha256(canonical([zstandard.__version__, zstandard.ZSTD_VERSION, zstandard.backend, _LEVEL]))
    for source in (__file__, members.__file__):
        digest.update(Path(source).read_bytes())
    return digest.digest()


# --- making them


class _Made(NamedTuple):
    """A frame that is ready; without `data` it is to be read at `offset` of the former tarball."""

    key: str
    length: int
    sha256: str
    data: bytes | None = None
    offset: int = 0


def _made(frames: Iterable[Frame], reader: Reader, kept: _Former) -> Iterator[_Made]:
    """All frames in their order: this thread reads files, others compress and compare."""
    ahead: deque[tuple[Frame, str, Future[_Made | None]]] = deque()

    def first() -> _Made:
        frame, name, future = ahead.popleft()
        return future.result() or _compressed(name, _raw(frame, reader))

    with ThreadPoolExecutor(_THREADS) as pool:
        for frame in frames:
            name = key(frame)
            if name in kept.frames:
                future = pool.submit(kept.whole, name)
            else:
                future = pool.submit(_compressed, name, _raw(frame, reader))
            ahead.append((frame, name, future))
            if len(ahead) > _AHEAD:
                yield first()
        while ahead:
            yield first()


def _raw(frame: Frame, reader: Reader) -> bytes:
    return b"".join(piece for part in frame for piece in reader.read(part)) if frame else members.END


def _compressed(name: str, raw: bytes) -> _Made:
    data = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(raw)
    return _Made(name, len(data), hashlib.sha256(data).hexdigest(), data)


class _Former:
    """What can be taken over of an earlier tarball, which is none or may be damaged; a context manager."""

    def __init__(self, tarball: Path | None) -> None:
        self.frames: dict[str, _Made] = {}
        self._file: BinaryIO | None = None
        if tarball is not None:
            with contextlib.suppress(OSError, ValueError):
                self._file = tarball.open("rb", buffering=0)
                self.frames = _frames(index(tarball).read_text(), self._file.seek(0, os.SEEK_END))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def whole(self, name: str) -> _Made | None:
        """A frame, or None if it is not what it was."""
        frame, digest = self.frames[name], hashlib.sha256()
        try:
            for data in self.read(frame):
                digest.update(data)
        except OSError:
            return None
        return frame if digest.hexdigest() == frame.sha256 else None

    def read(self, frame: _Made) -> Iterator[memoryview]:
        """The bytes of a frame, in one buffer that is used again; OSError where the file ends before."""
        assert self._file is not None
        buffer = memoryview(bytearray(_CHUNK))
        for done in range(0, frame.length, _CHUNK):
            wanted = buffer[: min(_CHUNK, frame.length - done)]
            if os.preadv(self._file.fileno(), [wanted], frame.offset + done) != len(wanted):
                raise OSError(errno.EIO, "the tarball before has become shorter")
            yield wanted


def _frames(listed: str, size: int) -> dict[str, _Made]:
    """By key; ValueError if that is no index of a tarball of `size` bytes."""
    found, offset = {}, 0
    for line in listed.splitlines():
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(line)
        found[match[1]] = _Made(match[1], int(match[2]), match[3], offset=offset)
        offset += int(match[2])
    if offset != size:
        raise ValueError(f"{offset} bytes are listed, not {size}")
    return found
