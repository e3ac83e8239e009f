"""Ramdisks: cpio archives in the kernel's `newc` format, the same bytes for the same content.

Written here and not by a tool, because a tool records inode numbers and times of the moment, and needs privilege for
device nodes.
"""

from __future__ import annotations

import stat

import zstandard

#: Level 19 halves what a node has to fetch before it can do anything, and costs a second once.
_LEVEL = 19


class Ramdisk:
    """The files of a ramdisk, by absolute path; all belong to root and have no time."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def folder(self, path: str) -> None:
        """A folder, and the ones above it."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            self._entries.setdefault("/".join(parts[:end]), (stat.S_IFDIR | 0o755, b"", (0, 0)))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, data)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self._add(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._entries

    def _add(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/")
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        self._entries[name] = (mode, data, device)

    def archive(self) -> bytes:
        """The archive, uncompressed."""
        parts = []
        for number, name in enumerate(sorted(self._entries), start=1):
            parts.append(_record(name, number, *self._entries[name]))
        parts.append(_record("TRAILER!!!", 0, 0, b"", (0, 0)))
        data = b"".join(parts)
        return data + bytes(-len(data) % 512)

    def compressed(self) -> bytes:
        """The archive as the kernel takes it, zstd."""
        return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(self.archive())


def _record(name: str, number: int, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    links = 2 if stat.S_ISDIR(mode) else 1
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
