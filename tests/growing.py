"""How the time that something takes grows with what it is given: a ratio, which is the same on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds of processor time that are enough to be measured.
_ENOUGH = 0.01


def require_linear(function: Callable[[int], object], least: int = 500) -> None:
    """Four times as much must not take nine times as long (with the square it would be sixteen)."""
    size = least
    while _seconds(function, size) < _ENOUGH and size < 1 << 20:
        size *= 2
    ratios = []
    for _ in range(3):  # others use the processor as well
        ratios.append(_seconds(function, 4 * size) / max(_seconds(function, size), _ENOUGH / 4))
        if ratios[-1] < 9:
            return
    raise AssertionError(f"four times {size} takes {', '.join(f'{ratio:.1f}' for ratio in ratios)} times as long")


def _seconds(function: Callable[[int], object], size: int) -> float:
    begin = time.process_time()
    function(size)
    return time.process_time() - begin
