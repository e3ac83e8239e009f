"""Waiting for machines: events with deadlines, never sleeps.

One loop listens to everything that can happen to any machine of a cluster: lines on its report channel, lines on its
console, libvirt's lifecycle events, the end of the cluster itself.  It ends at the first machine that got where it was
expected, or at the first sign that one never will: FAIL from the installer, a panic, a power-off too early.  A machine
that has reported READY is watched on, and so is one that is only guarded: a head node that dies while others wait for
it is told as such.

    watch.guard("head")
    watch.expect("node1", "install", {"DONE", "STOPPED"}, within=600)
    start(...)
    for reached in watch:                # in the order in which they get there
        ...                              # may expect more; the loop ends when nothing is expected any more

The order matters: first expect, then start, so that nothing is missed.

Machines are not believed: names, lengths and numbers of what they say have limits here, and no machine can keep the
loop from looking after the others.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from pipeline import events, foreign
from pipeline.drivers.domain import name_of
from pipeline.drivers.site import RUN
from pipeline.errors import ClusterError
from pipeline.figures import size
from pipeline.virt import disks, progress
from pipeline.virt.connection import Connection, Event, Listener
from pipeline.virt.console import FATAL, FATAL_TO_ALL, Console, Signs, signs, strip
from pipeline.virt.growing import Changes, Growing
from pipeline.virt.home import Home
from pipeline.virt.progress import Allowance, Progress
from pipeline.virt.timeline import Span, Timeline

__all__ = ["Progress", "Reached", "Signal", "Span", "Watch", "watch"]

#: What can be expected of a machine: its services are up, its installation is done, it has powered off.
Signal = Literal["READY", "DONE", "STOPPED"]

#: Seconds between two looks.  Consoles are written a few bytes at a time, and looking at each would cost more than the
#: machines themselves; a report is news, but a machine that makes nothing but news shall not keep a processor busy.
_CONSOLE_INTERVAL, _REPORT_INTERVAL = 0.25, 0.02

#: Seconds between two looks, which never wait longer than one, from which on there was nobody to look.
_UNATTENDED = 2.0

#: Seconds in which what a machine said before it powered off has come: it takes another way than the event does.
_LAST_WORDS = 5.0


@dataclass(frozen=True)
class Reached:
    """A machine got where it was expected to."""

    machine: str
    phase: str


@dataclass
class _Machine:
    """What the loop knows of one machine.  `wanted` is empty once it got there; `up` until it is seen to stop, `ended`
    with these words; `starting` until it is seen to start."""

    name: str
    console: Console
    report: Growing
    phase: str = ""
    wanted: frozenset[Signal] = frozenset()
    seen: set[Signal] = field(default_factory=set)
    deadline: float = 0.0
    within: float = 0.0
    since: float = 0.0
    step: str = ""
    step_since: float = 0.0
    up: bool = False
    starting: bool = False
    ended: str = ""
    shown: Allowance = field(default_factory=Allowance)


class Watch:
    """Watches the machines of one cluster; `timeline` is what happened when."""

    def __init__(self, home: Home, listener: Listener, on_progress: Callable[[Progress], None], fatal: Signs) -> None:
        self.timeline = Timeline()
        self._home = home
        self._cluster = home.cluster
        self._run_dir = home.run_dir
        self._listener = listener
        self._on_progress = on_progress
        self._fatal = (*FATAL, *fatal)
        self._machines: dict[str, _Machine] = {}
        self._reached: list[Reached] = []
        self._attended = time.monotonic()
        self._failure: ClusterError | None = None
        self._reports = Changes(self._run_dir / "report", _REPORT_INTERVAL)
        self._consoles = Changes(self._run_dir / "console", _CONSOLE_INTERVAL)
        self._kernel = Console(home.kernel_log, FATAL_TO_ALL) if home.kernel_log else None
        self._end = home.pidfd()

    def close(self) -> None:
        """End it, and say once what nobody has looked at."""
        for machine in self._machines.values():
            over = machine.console.passed_over + machine.report.passed_over
            if over:
                events.note(
                    f"{self._cluster}: {machine.name} wrote faster than one can follow, or lines without an "
                    f"end: {size(over)} were passed over"
                )
        self._reports.close()
        self._consoles.close()
        os.close(self._end)

    def expect(self, machine: str, phase: str, signals: Set[Signal], *, within: float, starts: bool = False) -> None:
        """From now on `machine` is in `phase`, which ends when all `signals` have come, in `within` seconds at most.

        `starts`: it is started after this, and how an earlier start has ended does not count, though it be told late.
        """
        known = self._machine(machine)
        if not known.up:
            known.report.restart()  # what it says after this start, which makes the file anew
        known.console.begin()
        known.phase, known.wanted, known.seen = phase, frozenset(signals), set()
        self._attended = time.monotonic()
        known.within, known.deadline, known.since = within, self._attended + within, time.time()
        known.step, known.up, known.ended, known.starting = "", True, "", starts

    def guard(self, machine: str) -> None:
        """Nothing is expected of this running machine but that it goes on running."""
        known = self._machine(machine)
        known.report.skip()
        known.phase, known.wanted, known.up, known.since = "running", frozenset(), True, time.time()

    def fail(self, error: ClusterError) -> None:
        """End the wait; for whoever brings here what machines write, in any thread, when that comes to an end."""
        self._failure = error
        self._listener.put(Event("", "lost", error.message))

    def __iter__(self) -> Iterator[Reached]:
        """Every machine as it gets where it is expected, until none is expected any more."""
        while True:
            while self._reached:
                yield self._reached.pop(0)
            if not any(machine.wanted for machine in self._machines.values()):
                return
            self._look()

    def wait(self) -> None:
        """Until every machine is where it is expected."""
        for _ in self:
            pass

    def _machine(self, name: str) -> _Machine:
        if name not in self._machines:
            self._machines[name] = _Machine(
                name,
                Console(self._run_dir / "console" / f"{name}.log", self._fatal),
                Growing(self._run_dir / "report" / name),
            )
        return self._machines[name]

    def _look(self) -> None:
        """Wait until something happens, and take it in."""
        waiting = [machine for machine in self._machines.values() if machine.wanted]
        ready = self._wait(min(machine.deadline for machine in waiting))
        # what a machine said before it stopped explains why it did, so files are taken in before events are, its own
        # words first; and events are fetched before files are read, so that all that was said before them is there
        happened = self._listener.take()
        self._reports.take()
        for machine in self._machines.values():
            for line in machine.report.lines():
                self._report(machine, line)
        self._read_consoles()
        # the end of the cluster is the end of its libvirt and of each machine too, and may be seen a moment later
        lost = any(event.what == "lost" for event in happened)
        if self._end in ready or (lost and select.select([self._end], [], [], 2)[0]):
            raise self._home.lost()
        for event in happened:
            self._happened(event)
        for machine in self._machines.values():
            if machine.wanted and time.monotonic() >= machine.deadline:
                raise self._error(machine, self._missing(machine))

    def _wait(self, deadline: float) -> set[int]:
        """The descriptors on which something happened; files count no more often than their intervals allow."""
        behind = any(machine.console.behind or machine.report.behind for machine in self._machines.values())
        files = (self._reports, self._consoles)
        while True:
            now = time.monotonic()
            poll = select.poll()
            poll.register(self._listener, select.POLLIN)
            poll.register(self._end, select.POLLIN)
            for changes in files:
                if changes.due <= now:
                    poll.register(changes, select.POLLIN)
            if behind and self._reports.due <= now:
                return set()
            until = min([deadline, *(changes.due for changes in files if changes.due > now)])
            # not longer than a second: an interrupted run tells its threads so, and they heed it between two waits
            ready = {descriptor for descriptor, _ in poll.poll(min(1.0, max(0.0, until - now)) * 1000 + 1)}
            self._attend()
            if ready or time.monotonic() >= deadline:
                return ready

    def _attend(self) -> None:
        """Time in which nobody watched does not count: this run was stopped (Ctrl-Z), or got no processor."""
        now = time.monotonic()
        if now - self._attended > _UNATTENDED:
            for machine in self._machines.values():
                machine.deadline += now - self._attended
        self._attended = now

    def _read_consoles(self) -> None:
        self._consoles.take()
        reason = self._kernel.read() if self._kernel else ""
        if reason and self._kernel:
            raise ClusterError(
                f"the VM container of {self._cluster}: {reason}",
                tail=self._kernel.tail,
                log=self._home.kernel_log,
                hint="nothing that was made there meanwhile can be trusted: start it anew",
            )
        for machine in self._machines.values():
            reason = machine.console.read()
            if reason and machine.up:
                raise self._error(machine, reason)

    def _report(self, machine: _Machine, line: bytes) -> None:
        """One line of the report channel."""
        word, _, rest = strip(line).strip().partition(" ")
        if word == "STATUS":
            told = progress.of(machine.name, machine.phase, rest)
            self._enter_step(machine, told.step)
            if machine.shown.take():
                self._on_progress(told)
        elif word == "FAIL":
            raise self._error(machine, foreign.line(rest) or "it reported a failure without a reason")
        elif word == "READY":
            self._signal(machine, "READY")
        elif word == "DONE":
            self._signal(machine, "DONE")

    def _happened(self, event: Event) -> None:
        """One event of libvirt."""
        if event.what == "lost":
            raise self._failure or self._home.lost()
        for machine in self._machines.values():
            if event.domain != name_of(self._cluster, machine.name):
                continue
            if event.what == "started":
                machine.starting = False
            elif machine.starting:
                continue
            if event.what == "started" and machine.wanted:
                self._on_progress(Progress(machine.name, machine.phase, "started", "", None))
            elif event.what == "stopped" and "STOPPED" in machine.wanted:
                machine.ended = event.detail
                machine.deadline = min(machine.deadline, time.monotonic() + _LAST_WORDS)
                self._signal(machine, "STOPPED")
            elif event.what == "paused" and machine.up:
                raise self._error(
                    machine,
                    f"paused: {event.detail.replace(RUN, str(self._run_dir))}",
                    "make room (doit gc frees what no cluster needs), then doit cluster:"
                    f"{self._cluster}; if it is there still, doit vm resume {self._cluster} "
                    f"{machine.name}",
                )
            elif event.what in ("stopped", "crashed") and machine.up:
                early = " too early" if machine.wanted and event.what == "stopped" else ""
                raise self._error(machine, event.detail + early)
            elif event.what == "rebooted" and machine.wanted:
                raise self._error(machine, "it restarted by itself")

    def _signal(self, machine: _Machine, signal: Signal) -> None:
        machine.seen.add(signal)
        if machine.wanted and machine.seen >= machine.wanted:
            self._enter_step(machine, "")
            self.timeline.add(Span(machine.name, machine.phase, "", machine.since, time.time()))
            self._reached.append(Reached(machine.name, machine.phase))
            machine.up = not machine.ended
            machine.wanted = frozenset()

    def _enter_step(self, machine: _Machine, step: str) -> None:
        """The machine says what it does now, so what it did before has ended."""
        if step == machine.step:
            return
        now = time.time()
        if machine.step:
            self.timeline.add(Span(machine.name, machine.phase, machine.step, machine.step_since, now))
        machine.step, machine.step_since = step, now

    def _missing(self, machine: _Machine) -> str:
        if machine.ended:
            return f"{machine.ended} too early"
        missing = machine.wanted - machine.seen
        if missing == {"STOPPED"} and machine.seen:
            return f"done, but not powered off after {machine.within:g} s"
        words = {"READY": "not ready", "DONE": "not done", "STOPPED": "not powered off"}
        last = f", last seen at: {machine.step}" if machine.step else ""
        # what it has said since then did not arrive
        full = f"; no space is left on {self._run_dir}" if disks.is_full(self._run_dir) else ""
        return f"{words[min(missing)]} after {machine.within:g} s{last}{full}"

    def _error(self, machine: _Machine, reason: str, hint: str = "") -> ClusterError:
        """`machine` will not get there: where it stood, why, its last lines, and how to go on."""
        machine.console.read()
        phase = machine.phase if machine.wanted else "running"
        if machine.step:
            phase = f"{phase}/{machine.step}"
        self._enter_step(machine, "")
        self.timeline.add(Span(machine.name, machine.phase, "", machine.since, time.time()))
        look = f"doit inspect {self._cluster} {machine.name} looks into its disk; " if self._home.disks_are_here else ""
        return ClusterError(
            f"{machine.name} ({phase}): {reason}",
            tail=machine.console.tail,
            log=self._run_dir / "console" / f"{machine.name}.log",
            hint=hint or f"{look}doit cluster:{self._cluster} tries again",
        )


@contextlib.contextmanager
def watch(
    home: Home,
    connection: Connection,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    *,
    fatal: Sequence[tuple[str, str]] = (),
) -> Iterator[Watch]:
    """Watch the machines of a cluster for as long as the block lasts.

    `fatal` are lines of their consoles with which they do not go on, besides those that any system has: regular
    expressions, and how to say what they mean.
    """
    with connection.listen() as listener:
        try:
            watching = Watch(home, listener, on_progress, signs(*fatal))
        except ProcessLookupError:
            raise ClusterError(f"cluster {home.cluster} has ended") from None
        with contextlib.closing(watching):
            yield watching
