"""Logs that machines fill, which have bounds: a file, and what was in it before it got too large, beside it.

virtlogd keeps those of machines under QEMU, and `append` those that come from another host.
"""

from __future__ import annotations

import os
from pathlib import Path

#: Bytes after which a log is set aside; `init.sh` tells virtlogd the same.
LIMIT = 4 * 1024 * 1024


def older(path: Path) -> Path:
    """What was in the log before, if there is so much."""
    return path.with_name(f"{path.name}.0")


def append(path: Path, data: bytes) -> None:
    """Add to a log; what is full is set aside first, in place of what was set aside before."""
    with path.open("ab") as file:
        file.write(data)
        full = file.tell() >= LIMIT
    if full:
        path.replace(older(path))
        path.touch()


def remove(path: Path) -> None:
    """Remove the log and what was set aside."""
    for file in (path, older(path)):
        file.unlink(missing_ok=True)


def last(path: Path, most: int) -> tuple[bytes, int]:
    """The last `most` bytes, from the start of a line if there are more, and how many come before them.

    Raises FileNotFoundError where nothing was ever written.
    """
    try:
        data, before = _end(path, most)
    except FileNotFoundError:  # it has just been set aside, and there is no new one yet
        if not older(path).exists():
            raise
        data, before = b"", 0
    if older(path).exists():
        early, left = _end(older(path), most - len(data)) if not before else (b"", older(path).stat().st_size)
        data, before = early + data, left + before
    cut = data.find(b"\n") + 1 if before else 0
    return data[cut:], before + cut


def _end(path: Path, most: int) -> tuple[bytes, int]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        before = max(0, size - most)
        file.seek(before)
        return file.read(most), before
