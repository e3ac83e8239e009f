"""Words and figures of a report, and the end of a console."""

from __future__ import annotations

from pathlib import Path

from pipeline.foreign import clean
from pipeline.virt import logs


def tail(path: Path, most: int) -> tuple[str, int]:
    """The last `most` bytes of a console, from the start of a line, and how many bytes come before them."""
    data, before = logs.last(path, most)
    return clean(data.decode("utf-8", "replace")), before


def duration(seconds: float) -> str:
    """`0.42 s`, `7.3 s`, `2:05 min`, `1:02:05 h`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def size(count: int) -> str:
    """`812 B`, `3.1 MiB`."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
