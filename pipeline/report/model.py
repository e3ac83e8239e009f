"""What a report tells besides the verdict: when things happened, and what the cluster was made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Phase:
    """A stretch of a machine's life, as `install` of node1.  Times are seconds since the epoch."""

    machine: str
    name: str
    start: float
    end: float
    detail: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Task:
    """A task of the run: what became of it and why.  `start` is 0 where it did not run."""

    name: str
    result: Literal["built", "reused", "done", "failed"]
    reason: str
    seconds: float
    start: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True)
class Timeline:
    """All that happened, in any order."""

    phases: tuple[Phase, ...] = ()
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True)
class Artifact:
    """An artifact that the cluster was made of."""

    name: str
    digest: str
    size_bytes: int = 0
