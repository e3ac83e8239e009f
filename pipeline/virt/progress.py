"""What a machine says of itself while one waits for it: as much of it as anybody reads."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from pipeline import foreign

#: Characters of a step's name, and of how it stands with that.
_STEP, _DETAIL = 40, 200
#: Steps of one machine that are shown at once, and how many more in a second.
_BURST, _RATE = 100, 5


@dataclass(frozen=True)
class Progress:
    """Where a machine stands."""

    machine: str
    phase: str
    step: str
    detail: str
    percent: int | None


def of(machine: str, phase: str, status: str) -> Progress:
    """The progress in what stands behind STATUS: a step, and anything about it."""
    step, _, detail = status.partition(" ")
    detail = foreign.clip(detail, _DETAIL)
    percent = re.search(r"\b(\d{1,3})\s?%", detail)
    return Progress(machine, phase, foreign.clip(step, _STEP), detail, min(100, int(percent[1])) if percent else None)


@dataclass
class Allowance:
    """How many more steps of one machine are worth showing."""

    left: float = _BURST
    since: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        """Whether one more is."""
        now = time.monotonic()
        self.left = min(float(_BURST), self.left + (now - self.since) * _RATE)
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True
