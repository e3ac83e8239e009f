"""The end of a console."""

from __future__ import annotations

from pathlib import Path

from pipeline.foreign import clean
from pipeline.virt import logs


def tail(path: Path, most: int) -> tuple[str, int]:
    """The last `most` bytes of a console, from the start of a line, and how many bytes come before them."""
    data, before = logs.last(path, most)
    return clean(data.decode("utf-8", "replace")), before
