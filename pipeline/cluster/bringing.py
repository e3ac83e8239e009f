"""Acting on a course: machines are brought to where they are expected, as many at once as make sense.

Not in lock-step: a machine that gets there makes room for the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from pipeline.cluster.course import Act, Phase
from pipeline.virt import pace
from pipeline.virt.pace import Capacity
from pipeline.virt.watch import Reached, Signal, Watch

_SIGNALS: Mapping[Phase, Set[Signal]] = {"boot": {"READY"}, "install": {"DONE", "STOPPED"}, "start": {"READY"}}


@dataclass(frozen=True)
class Hands:
    """How it is done to one machine, by its name."""

    start: Callable[[str], None]
    resume: Callable[[str], None]
    restore: Callable[[str], None]


def bring(
    watching: Watch, phase: Phase, acts: Mapping[str, Act], ready: Set[str], hands: Hands, capacity: Capacity
) -> Iterator[Reached]:
    """Act on all of these machines and wait until each is where the phase ends; those as they get there.

    Machines in `ready` have said already that they are, so nothing is expected of them once they go on.
    """
    coming = [name for name, act in acts.items() if act not in ("start", "restart", "install")]
    within = pace.deadline(len(coming), "start", capacity)
    for name in coming:
        if name not in ready:
            watching.expect(name, phase, {"READY"}, within=within)
        if acts[name] != "wait":
            (hands.resume if acts[name] == "resume" else hands.restore)(name)
        if name in ready:
            watching.guard(name)
    most = pace.at_once(phase, capacity)
    within = pace.deadline(most, phase, capacity)

    def begin(name: str) -> None:
        watching.expect(name, phase, _SIGNALS[phase], within=within, starts=True)
        hands.start(name)

    yield from in_waves(watching, [name for name in acts if name not in coming], most, begin)


def in_waves(watching: Watch, names: Sequence[str], most: int, begin: Callable[[str], None]) -> Iterator[Reached]:
    """Begin with each of these machines, with at most so many at the same time; all that the watch tells meanwhile."""
    waiting, under_way = deque(names), set[str]()

    def fill() -> None:
        while waiting and len(under_way) < most:
            under_way.add(waiting[0])
            begin(waiting.popleft())

    fill()
    for reached in watching:
        under_way.discard(reached.machine)
        fill()
        yield reached
