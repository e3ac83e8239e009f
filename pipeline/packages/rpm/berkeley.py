"""Berkeley DB files, in which rpms before 4.16 keep what is installed: items changed in place, and a form in which the
same content is the same bytes.

A file is a row of pages of one size, the first of which says what it is.  Berkeley DB leaves what was in its memory in
between items and at the end of pages, and gives each file an id made of time, inode and chance.
Source: Berkeley DB's dbinc/db_page.h; the form of pages is the same in its releases 4.1 to 5.3.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

_BTREE, _HASH = 0x053162, 0x061561
#: Of the first page: where its magic number, the size of pages, its flags (1: pages have checksums) and its id are.
_MAGIC, _PAGE_SIZE, _FLAGS, _ID = 12, 20, 26, slice(52, 72)
#: Pages: free, of hash tables in older and newer releases, of B-trees (inner ones, leaves), of one long item, the first
#: one of either kind, and of an item's duplicates.
_FREE, _HASH_OLDER, _INNER, _LEAF, _LONG, _FIRST_HASH, _FIRST_BTREE, _DUPLICATES, _HASH_PAGE = (
    0, 2, 3, 5, 7, 8, 9, 12, 13)  # fmt: skip
#: A page begins with its log position, own number, those before and after it, how many items it has, where they begin
#: (or how much of a long one it has), its level and its kind.
_HEADER_SIZE = 26
#: An item that lies on pages of its own, and a reference to pages with all values of one key: in hash tables and in
#: B-trees.
_HASH_LONG, _HASH_REFERENCE = 3, 4
_BTREE_REFERENCE, _BTREE_LONG, _DELETED = 2, 3, 0x80

#: What a file that is not as it should be raises.
DAMAGE = (ValueError, struct.error, IndexError)


def is_one(file: Path) -> bool:
    """Whether a path is a Berkeley DB file, and no link."""
    if file.is_symlink() or not file.is_file():
        return False
    with file.open("rb") as stream:
        return _order(stream.read(_PAGE_SIZE)) is not None


def change(file: Path, how: Callable[[bytes], bytes]) -> None:
    """Give each value of a hash table to `how`, and put what that returns, of the same length, in its place.

    Raises one of DAMAGE for what is no such file, or not whole."""
    pages = _Pages(file.read_bytes())
    for number in range(1, len(pages)):
        if pages.kind(number) not in (_HASH_OLDER, _HASH_PAGE):
            continue
        for index, (begin, end) in enumerate(pages.hash_items(number)):
            if index % 2 == 0:  # the key
                continue
            if pages.data[begin] == _HASH_LONG:
                first, length = pages.read("II", begin + 4)
                pieces = list(pages.pieces(first, length))
            else:
                pieces = [(begin + 1, end)]
            changed = how(b"".join(pages.data[a:b] for a, b in pieces))
            for a, b in pieces:
                pages.data[a:b], changed = changed[: b - a], changed[b - a :]
    _write(file, pages.data)


def settle(file: Path) -> None:
    """Take out what is no content.  Raises as `change` does."""
    pages = _Pages(file.read_bytes())
    # unlike that of any other file that a program has open with it
    pages.data[_ID] = hashlib.sha1(file.name.encode(), usedforsecurity=False).digest()
    for number in range(1, len(pages)):
        kept = bytearray(pages.size)
        start = number * pages.size
        for begin, end in pages.content(number):
            kept[begin - start : end - start] = pages.data[begin:end]
        pages.data[start : start + pages.size] = kept
    _write(file, pages.data)


class _Pages:
    def __init__(self, data: bytes) -> None:
        order = _order(data)
        if order is None:
            raise ValueError("no Berkeley DB file")
        self._order = order
        self.data = bytearray(data)
        (self.size,) = self.read("I", _PAGE_SIZE)
        if self.size not in (1 << bit for bit in range(9, 17)) or len(data) % self.size or data[_FLAGS] & 1:
            raise ValueError("a Berkeley DB file of an unknown form")

    def __len__(self) -> int:
        return len(self.data) // self.size

    def read(self, form: str, place: int) -> tuple[int, ...]:
        """Numbers in the file's byte order."""
        found: tuple[int, ...] = struct.unpack_from(f"{self._order}{form}", self.data, place)
        return found

    def kind(self, number: int) -> int:
        """The kind of a page."""
        return self.data[number * self.size + _HEADER_SIZE - 1]

    def content(self, number: int) -> Iterator[tuple[int, int]]:
        """Where on a page something is that counts: begin and end in the file."""
        start, kind = number * self.size, self.kind(number)
        yield start, start + _HEADER_SIZE
        if kind == _LONG:
            yield self._piece(number)
        elif kind in (_HASH_OLDER, _HASH_PAGE):
            yield self._index(number)
            for begin, end in self.hash_items(number):
                if self.data[begin] == _HASH_LONG:
                    yield begin, begin + 1
                    yield begin + 4, begin + 12
                elif self.data[begin] == _HASH_REFERENCE:
                    yield begin, begin + 1
                    yield begin + 4, begin + 8
                else:
                    yield begin, end
        elif kind in (_INNER, _LEAF, _DUPLICATES):
            yield self._index(number)
            for place in set(self._places(number)):
                yield from self._tree_item(start + place, is_inner=kind == _INNER)
        elif kind in (_FIRST_HASH, _FIRST_BTREE):  # of a file within the file
            yield start, start + self.size
        elif kind != _FREE:
            raise ValueError(f"a Berkeley DB file with pages of kind {kind}")

    def hash_items(self, number: int) -> Iterator[tuple[int, int]]:
        """Keys and values in turns: they fill a page from its end on, and each begins with its kind."""
        start, end = number * self.size, self.size
        for place in self._places(number):
            if not _HEADER_SIZE <= place < end:
                raise ValueError("items of a page overlap")
            yield start + place, start + end
            end = place

    def pieces(self, number: int, length: int) -> Iterator[tuple[int, int]]:
        """Where a long item is, from its first page on."""
        while length > 0:
            if not 0 < number < len(self) or self.kind(number) != _LONG:
                raise ValueError("a long item ends too early")
            begin, end = self._piece(number)
            if not 0 < end - begin <= length:
                raise ValueError("a long item is not as long as it should be")
            yield begin, end
            length -= end - begin
            (number,) = self.read("I", number * self.size + 16)

    def _piece(self, number: int) -> tuple[int, int]:
        begin = number * self.size + _HEADER_SIZE
        (length,) = self.read("H", number * self.size + 22)
        if length > self.size - _HEADER_SIZE:
            raise ValueError("a piece is longer than its page")
        return begin, begin + length

    def _places(self, number: int) -> tuple[int, ...]:
        (count,) = self.read("H", number * self.size + 20)
        return self.read(f"{count}H", number * self.size + _HEADER_SIZE)

    def _index(self, number: int) -> tuple[int, int]:
        begin = number * self.size + _HEADER_SIZE
        return begin, begin + 2 * len(self._places(number))

    def _tree_item(self, begin: int, *, is_inner: bool) -> Iterator[tuple[int, int]]:
        """An item is its length, its kind and itself; on inner pages also a page and a count."""
        length, kind = self.read("HB", begin)
        if is_inner:
            yield begin, begin + 3
            yield begin + 4, begin + 12
            begin += 12
            if kind & ~_DELETED != _BTREE_LONG:
                yield begin, begin + length
                return
        if kind & ~_DELETED in (_BTREE_LONG, _BTREE_REFERENCE):
            yield begin + 2, begin + 3
            yield begin + 4, begin + (12 if kind & ~_DELETED == _BTREE_LONG else 8)
        else:
            yield begin, begin + 3 + length


def _order(beginning: bytes) -> str | None:
    """The byte order of a file, "<" or ">", if it is one."""
    for order in "<>":
        if len(beginning) >= _PAGE_SIZE and struct.unpack_from(f"{order}I", beginning, _MAGIC)[0] in (_BTREE, _HASH):
            return order
    return None


def _write(file: Path, data: bytearray) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_NOFOLLOW), "wb") as stream:
        stream.write(data)
