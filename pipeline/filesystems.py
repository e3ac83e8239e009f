"""File systems as a person knows them: where they begin, what they are, and whether there is room."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

#: Bytes that are little room on a file system of any size.
_LITTLE = 256 << 20


@dataclass(frozen=True)
class FileSystem:
    """The file system that a path is on, or would be: where it begins, its type, room in bytes and in files."""

    place: Path
    type: str
    free: int
    size: int
    free_files: int
    files: int

    @property
    def lacks_files(self) -> bool:
        """Whether it has room, but not for one more name."""
        return self.files > 0 and self.free_files < 16 and self.free >= 1 << 20

    @property
    def is_nearly_full(self) -> bool:
        """Whether that may be why somebody found no room: they will have taken away since what they could not end."""
        return self.lacks_files or self.free < min(_LITTLE, self.size // 4)

    def __str__(self) -> str:
        kind = "memory" if self.type == "tmpfs" else self.type
        room = f"{amount(self.free)} of {amount(self.size)} free"
        if self.lacks_files:
            room = f"all of its {self.files} files taken"
        return f"{self.place} ({', '.join(filter(None, (kind, room)))})"


def of(path: Path) -> FileSystem:
    """The file system of `path`, or of what there is on the way to it."""
    there = existing(path.absolute())
    device = there.stat().st_dev
    top = there
    while top != top.parent and top.parent.stat().st_dev == device:
        top = top.parent
    found = os.statvfs(there)
    return FileSystem(
        top, _type(top), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files
    )


def amount(size: int) -> str:
    """`0 KiB`, `3 MiB`, `1.5 GiB`."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def existing(path: Path) -> Path:
    """What there is of a path, as far as one can see."""
    for there in (path, *path.parents):
        try:
            there.stat()
        except OSError:
            continue
        return there
    return Path("/")


def _type(top: Path) -> str:
    """The type of the file system that begins at `top`; "" where the kernel does not tell."""
    name = re.sub(r"[\\ \t\n]", lambda found: f"\\{ord(found[0]):03o}", str(top))
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()]
    return next((mount[mount.index("-") + 1] for mount in reversed(mounts) if mount[4] == name), "")
