"""What happens in a run, as a stream of small facts: the one way from those who work to those who show it.

Builders, the cluster's start and the checks publish here and know nothing of terminals; `reporter.py` subscribes.
Publishing is cheap, never blocks on a screen of its own accord, and may be done from any thread.  What is published
before anybody listens (while recipes are read) is kept, up to a limit, and handed to the first subscriber.  Much of it
is what machines say of themselves, so an event's texts are cleaned on their way.

The one question that goes the other way, `ask`, waits for a person, and is answered with no where nobody can be asked.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pipeline import foreign

Result = Literal["built", "reused", "done"]


@dataclass(frozen=True)
class Reason:
    """Why a task has to run."""

    task: str
    text: str


@dataclass(frozen=True)
class Progress:
    """How far a task is: `done` of `total` (0 = unknown) in `unit` ("bytes", "files", "packages" ...)."""

    task: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Phase:
    """Where one machine of a cluster stands."""

    task: str
    machine: str
    phase: str
    detail: str


@dataclass(frozen=True)
class Outcome:
    """What became of a task: made, taken from the store, or simply done where nothing is kept."""

    task: str
    result: Result
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Note:
    """A remark on the whole run, as "no usable KVM: machines are emulated"."""

    text: str


@dataclass(frozen=True)
class Warning:
    """Something in the recipes that is probably not what its author wants: where it is, and why."""

    text: str


Event = Reason | Progress | Phase | Outcome | Note | Warning
Subscriber = Callable[[Event], None]

#: Characters: a verdict on some hundred machines has this much.
_LONGEST_NOTE = 200_000

_lock = threading.Lock()
_subscribers: tuple[Subscriber, ...] = ()
_unheard: deque[Event] = deque(maxlen=1000)
_asker: Callable[[str], bool] | None = None


def reason(task: str, text: str) -> None:
    """Say why `task` runs."""
    publish(Reason(task, text))


def progress(task: str, done: int, total: int = 0, unit: str = "bytes") -> None:
    """Say how far `task` is; `total` 0 means that nobody knows."""
    publish(Progress(task, done, total, unit))


def phase(task: str, machine: str, phase: str, detail: str = "") -> None:
    """Say that `machine` has come to `phase`."""
    publish(Phase(task, machine, phase, detail))


def outcome(task: str, result: Result, seconds: float = 0.0, size_bytes: int = 0) -> None:
    """Say what became of `task`."""
    publish(Outcome(task, result, seconds, size_bytes))


def note(text: str) -> None:
    """Tell something about the whole run."""
    publish(Note(text))


def warning(text: str) -> None:
    """Tell a mistake that stops nothing."""
    publish(Warning(text))


def publish(event: Event) -> None:
    """Hand `event`, cleaned, to all who listen, in this thread."""
    event = _clean(event)
    with _lock:
        listening = _subscribers
        if not listening:
            _unheard.append(event)
    for subscriber in listening:
        subscriber(event)


def _clean(event: Event) -> Event:
    """Only a note has lines: anywhere else they could pass for lines of ours."""
    if isinstance(event, Note):
        return Note(foreign.clip(foreign.clean(event.text), _LONGEST_NOTE))
    texts: dict[str, Any] = {name: foreign.line(value) for name, value in vars(event).items() if isinstance(value, str)}
    return dataclasses.replace(event, **texts)


def ask(question: str) -> bool:
    """Whether a person says yes to that; False where there is none."""
    asker = _asker
    return asker is not None and asker(foreign.clean(question))


def answer_with(asker: Callable[[str], bool] | None) -> None:
    """From now on questions go there; None: nobody can be asked any more."""
    global _asker
    _asker = asker


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Listen from now on; the result ends it.  The first subscriber is told what went unheard before."""
    global _subscribers
    with _lock:
        unheard = list(_unheard)
        _unheard.clear()
        _subscribers = (*_subscribers, subscriber)
    for event in unheard:
        subscriber(event)

    def unsubscribe() -> None:
        global _subscribers
        with _lock:
            _subscribers = tuple(item for item in _subscribers if item is not subscriber)

    return unsubscribe
