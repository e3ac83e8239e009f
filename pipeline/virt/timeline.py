"""What machines did when, as they say it of themselves: so each has only a bounded part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

#: Seconds: shorter steps in a row are told as one.
_SHORT = 0.1
#: Steps in one phase of one machine; an installation has about a dozen.
_MOST = 500
#: What several steps are called that were too short, or too many, to be told apart.
SEVERAL = "several steps"


@dataclass(frozen=True)
class Span:
    """A piece of a machine's time line: a phase (`step` is "") or a step of it; seconds since the epoch."""

    machine: str
    phase: str
    step: str
    start: float
    end: float

    @property
    def is_short(self) -> bool:
        return self.step == SEVERAL or self.end - self.start < _SHORT


class Timeline:
    """The spans of all machines, in the order in which they ended."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._steps: dict[tuple[str, str], list[int]] = {}  # where those of a machine's phase are

    def __iter__(self) -> Iterator[Span]:
        return iter(self._spans)

    def __getitem__(self, index: int) -> Span:
        return self._spans[index]

    def add(self, span: Span) -> None:
        """Add what has just ended.  A step that is not worth a line of its own becomes one with the step before."""
        if span.step:
            steps = self._steps.setdefault((span.machine, span.phase), [])
            last = self._spans[steps[-1]] if steps else None
            if last and (len(steps) >= _MOST or (span.is_short and last.is_short)):
                self._spans[steps[-1]] = dataclasses.replace(last, step=SEVERAL, end=span.end)
                return
            steps.append(len(self._spans))
        self._spans.append(span)
