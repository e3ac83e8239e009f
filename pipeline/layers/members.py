"""Trees as members of a tarball: headers are made of inventories alone, content is read from the tree that they list.

So the bytes are a function of what an inventory says: no time below a second, no order in which a file system happens
to tell attributes, no holes that it makes or leaves out.  The format is that of `tar --format=posix` with holes as
--sparse-version=0.0, and with extended attributes as GNU tar has them (SCHILY.xattr).  Python's tarfile writes neither
of the two so that GNU tar takes it without a warning.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from pipeline import inventory, listing
from pipeline.errors import BuildError

#: What stands after the last member.
END = bytes(1024)
#: Bytes of a file's content in one part at most.
PART = 8 << 20

#: Members begin at multiples of this many bytes.
_RECORD = 512
#: Holes are told in blocks of that size, as most file systems have them.
_BLOCK = 4096
_ZERO = bytes(_BLOCK)
#: name, mode, uid, gid, size, mtime, checksum, type, target, magic, version, user, group, device, prefix
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_TYPES = {"f": b"0", "h": b"1", "l": b"2", "d": b"5", "p": b"6"}
#: The largest numbers that a header has room for; larger ones, and those below zero, are told beside it.
_SMALL, _LARGE = 8**7 - 1, 8**11 - 1

#: Where a file has data: offset and length.
_Runs = list[tuple[int, int]]


class Member(NamedTuple):
    """All that a member's bytes are made of; of a file's content it has the digest.

    `type` is as in inventories, or h(ard link): another name of the file `target`, which stands before.  `sparse` says
    that the file has holes, and what is nothing but zeros becomes one.
    """

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    target: str = ""
    sha256: str = ""
    sparse: bool = False
    attributes: tuple[tuple[str, str], ...] = ()


class Part(NamedTuple):
    """A member or, of a large file, the bytes `start` to `end` of its content: the first one has the header."""

    member: Member
    start: int
    end: int


def parts(tree: inventory.Tree) -> Iterator[Part]:
    """All of a tree, each folder before what is in it, in the order of names."""
    first: dict[str, str] = {}
    entries = dict(tree.items())
    for path in listing.ordered(entries, key=lambda path: path.replace("/", "\0")):
        entry = entries[path]
        access = (entry.mode, entry.uid, entry.gid, entry.mtime)
        if entry.inode and (target := first.setdefault(entry.inode, path)) != path:
            yield Part(Member(path, "h", *access, target=target), 0, 0)
            continue
        if entry.type not in _TYPES:
            raise BuildError(f"/{inventory.shown(path)}: no tarball holds a file of type {entry.type}")
        member = Member(
            path,
            entry.type,
            *access,
            entry.size,
            entry.target,
            entry.sha256,
            entry.holes > 0,
            tuple(sorted(entry.attributes.items())) if entry.attributes else (),
        )
        for start in range(0, max(entry.size, 1), PART):
            yield Part(member, start, min(start + PART, entry.size))


class Reader:
    """The bytes of members of the tree at `root`; a context manager.

    Nobody changes that meanwhile, or (`suspicious`) each file that is read is compared with its digest.
    """

    def __init__(self, root: Path, *, suspicious: bool = False) -> None:
        self._suspicious = suspicious
        self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def read(self, part: Part) -> Iterator[bytes]:
        """Piece by piece; BuildError if the tree holds something else than the inventory said."""
        member = part.member
        if member.type != "f":
            yield _header(member, 0, [])
            return
        try:
            descriptor = os.open(member.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
            try:
                yield from _pieces(descriptor, part)
                if self._suspicious and _digest(descriptor) != member.sha256:
                    raise _differs(member)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise BuildError(f"/{inventory.shown(member.path)} cannot be read: {error.strerror}") from None


def _digest(file: int) -> str:
    os.lseek(file, 0, os.SEEK_SET)
    with open(file, "rb", buffering=0, closefd=False) as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def _pieces(file: int, part: Part) -> Iterator[bytes]:
    member, start, end = part
    if os.fstat(file).st_size != member.size:
        raise _differs(member)
    if start == 0:
        if member.sparse:
            runs = _runs(file, 0, member.size)
            yield _header(member, sum(length for _, length in runs), _sparse_records(runs, member.size))
        else:
            yield _header(member, member.size, [])
    runs = _runs(file, start, end) if member.sparse else [(start, end - start)]
    for offset, length in runs:
        data = os.pread(file, length, offset)
        if len(data) != length:
            raise _differs(member)
        yield data
        if offset + length == member.size:
            yield bytes(-length % _RECORD)


def _differs(member: Member) -> BuildError:
    return BuildError(f"/{inventory.shown(member.path)} is not what its layer's inventory says", hint="run again")


def _runs(file: int, start: int, end: int) -> _Runs:
    """Where there is something else than zeros from `start`, which is a multiple of a block, to `end`."""
    found: _Runs = []
    place = start
    while place < end:
        try:
            data = os.lseek(file, place, os.SEEK_DATA)
        except OSError:  # nothing but a hole from here on
            break
        after = min(os.lseek(file, data, os.SEEK_HOLE), end)
        place = data - data % _BLOCK
        while place < after:
            block = os.pread(file, min(_BLOCK, end - place), place)
            if block != _ZERO[: len(block)]:
                if found and sum(found[-1]) == place:
                    found[-1] = found[-1][0], found[-1][1] + len(block)
                else:
                    found.append((place, len(block)))
            place += _BLOCK
    return found


# --- headers


def _header(member: Member, stored: int, records: list[tuple[bytes, bytes]]) -> bytes:
    """A member's header, with `stored` bytes to follow; what it has no room for is in another one before it."""
    name = _inside(member.path) + (b"/" if member.type == "d" and member.path else b"")
    target = _inside(member.target) if member.type == "h" else os.fsencode(member.target)
    beside = [(word, text) for word, text in ((b"path", name), (b"linkpath", target)) if not _fits(text)]
    uid, gid, size, mtime = (
        _number(beside, word, value, most)
        for word, value, most in (
            (b"uid", member.uid, _SMALL),
            (b"gid", member.gid, _SMALL),
            (b"size", stored, _LARGE),
            (b"mtime", member.mtime, _LARGE),
        )
    )
    beside += [(_keyword(attribute), bytes.fromhex(value)) for attribute, value in member.attributes]
    extended = b"".join(_record(word, value) for word, value in (*beside, *records))
    plain = _plain(name, member.mode, uid, gid, size, mtime, _TYPES[member.type], target)
    if not extended:
        return plain
    label = b"./PaxHeaders/" + os.fsencode(member.path).rpartition(b"/")[2]
    before = _plain(label, 0o644, 0, 0, len(extended), mtime, b"x", b"")
    return before + extended + bytes(-len(extended) % _RECORD) + plain


def _number(beside: list[tuple[bytes, bytes]], word: bytes, value: int, most: int) -> int:
    """What stands in the header for a number; where there is no room for it, it goes beside."""
    if 0 <= value <= most:
        return value
    beside.append((word, b"%d" % value))
    return 0


def _inside(path: str) -> bytes:
    return b"./" + os.fsencode(path)


def _fits(text: bytes) -> bool:
    return len(text) <= 100 and text.isascii()


def _keyword(attribute: str) -> bytes:
    """How GNU tar writes the name of an attribute, which ends at the first `=`."""
    return b"SCHILY.xattr." + os.fsencode(attribute.replace("%", "%25").replace("=", "%3D"))


def _record(word: bytes, value: bytes) -> bytes:
    """One record of an extended header; its length counts the digits of the length."""
    rest = b" %s=%s\n" % (word, value)
    length = len(rest) + 1
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def _sparse_records(runs: _Runs, size: int) -> list[tuple[bytes, bytes]]:
    """Which of a file's bytes are in the archive."""
    if runs == [(0, size)]:
        return []
    if not runs or sum(runs[-1]) != size:  # so that what extracts it gets to the end
        runs = [*runs, (size, 0)]
    found = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(runs))]
    for offset, length in runs:
        found += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    return found


def _plain(name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, type: bytes, target: bytes) -> bytes:
    fields = [b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % mtime]
    fixed = (b"ustar", b"00", b"", b"", b"%07o" % 0, b"%07o" % 0, b"")
    blank = _HEADER.pack(name, *fields, b" " * 8, type, target, *fixed)
    return _HEADER.pack(name, *fields, b"%06o\0 " % sum(blank), type, target, *fixed)
