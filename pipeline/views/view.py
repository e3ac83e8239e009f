"""What a view is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pipeline.errors import UserError
from pipeline.events import Result


@dataclass
class MachineState:
    """Where one machine stands, and since when."""

    name: str
    phase: str
    detail: str
    since: float
    is_new_phase: bool


@dataclass
class Activity:
    """A task that runs."""

    task: str
    reason: str = ""
    since: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    unit: str = ""
    machines: dict[str, MachineState] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    def enter(self, machine: str, phase: str, detail: str) -> MachineState:
        """Note that a machine has come to a phase; only a new phase restarts its clock."""
        before = self.machines.get(machine)
        same = before is not None and before.phase == phase
        since = before.since if before is not None and same else time.monotonic()
        self.machines[machine] = state = MachineState(machine, phase, detail, since, not same)
        return state


@dataclass(frozen=True)
class Finished:
    """A task that ended well."""

    task: str
    result: Result
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Failure:
    """A task that did not.  `skipped`: never tried, because one that it needs failed."""

    task: str
    seconds: float
    kind: Literal["error", "bug", "skipped"]
    error: UserError


@dataclass(frozen=True)
class Summary:
    """The run as a whole, so far."""

    finished: tuple[Finished, ...]
    reused: int
    failed: tuple[Failure, ...]
    seconds: float


class View(Protocol):
    """What `Reporter` tells, always under its lock."""

    def note(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def started(self, activity: Activity, summary: Summary) -> None: ...

    def reason(self, activity: Activity) -> None: ...

    def progress(self, activity: Activity) -> None: ...

    def phase(self, activity: Activity, machine: MachineState) -> None: ...

    def finished(self, activity: Activity, finished: Finished, summary: Summary) -> None: ...

    def failed(self, failure: Failure, summary: Summary) -> None: ...

    def hold(self, question: str) -> bool:
        """Stand still with a question on the screen; False where nobody could answer it."""

    def go_on(self) -> None:
        """It has been answered."""

    def close(self) -> None: ...

    def summary(self, summary: Summary) -> None: ...
