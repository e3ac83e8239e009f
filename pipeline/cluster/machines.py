"""The machines of a running cluster one by one: list, start, stop, pause and resume, save and restore.

The same on every host: where a machine's memory is saved is its place's to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.bringing import in_waves
from pipeline.description import Cluster
from pipeline.drivers import domain
from pipeline.drivers.domain import Accelerator
from pipeline.errors import ClusterError, UserError
from pipeline.hosts.place import Place, required
from pipeline.virt import pace, power
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import Connection, connect
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity
from pipeline.virt.power import State
from pipeline.virt.watch import Watch

Action = Literal["start", "stop", "pause", "resume", "save", "restore"]
#: Makes the watch of a phase.
Watcher = Callable[[Home, Connection, str], AbstractContextManager[Watch]]
Show = Callable[[str, str], None]

#: Deadlines in seconds: to power off, to write or read memory; as generous as those of a cluster's start.
_OFF, _MEMORY = 120, 600

#: For what a saved machine's file holds besides memory.
_BESIDES_MIB = 64

#: In which states an action makes sense, and how to say so.
_SENSIBLE: dict[Action, tuple[frozenset[State], str]] = {
    "start": (frozenset({"off"}), "only one that is off can be started"),
    "stop": (frozenset({"running", "paused", "crashed", "saved"}), "there is nothing to stop"),
    "pause": (frozenset({"running"}), "only one that is running can be paused"),
    "resume": (frozenset({"paused"}), "only one that is paused can be resumed"),
    "save": (frozenset({"running", "paused"}), "only one that is running or paused can be saved"),
    "restore": (frozenset({"saved"}), "only one that is saved can be restored"),
}

#: What usually follows a state.
_FOLLOWS: dict[State, tuple[Action, ...]] = {"off": ("start",), "paused": ("resume",), "saved": ("restore", "stop")}


@dataclass(frozen=True)
class Line:
    """One machine in a list; `why` it is paused, where nobody has paused it."""

    machine: str
    state: State
    memory_mib: int
    cpus: int
    accelerator: Accelerator
    why: str = ""


class Machines:
    """The machines of one cluster that runs.

    `alone` keeps others from changing the cluster meanwhile; `watcher` makes a watch of its machines.
    """

    def __init__(self, cluster: Cluster, place: Place, run_dir: Path,
                 alone: Callable[[], AbstractContextManager[None]], watcher: Watcher) -> None:
        self.cluster = cluster
        self._place = place
        self._run_dir = run_dir
        self._alone = alone
        self._watcher = watcher

    def runs(self) -> bool:
        """Whether the cluster runs."""
        return self._place.find() is not None

    def lines(self) -> list[Line]:
        """Every machine that is defined, in the manifest's order; raises ClusterError where the cluster does not run.
        """
        with connect(self._home().libvirt_uri) as connection:
            known = self._known(connection)
        return [known[machine.name] for machine in self.cluster.machines if machine.name in known]

    def act(self, action: Action, names: Sequence[str], show: Show = lambda _machine, _words: None, *,
            wait: bool = True, off_within: float = _OFF) -> None:
        """Do it to these machines, or to all for which it makes sense; `show` is told what became of each.

        `wait` concerns starts: until the machine is ready.
        """
        with self._alone():
            home = self._home()
            with connect(home.libvirt_uri) as connection:
                known = self._known(connection)
                chosen = self._choose(action, names, known)
                if action == "start":
                    self._start(home, connection, chosen, known, show, wait)
                elif action == "stop":
                    self.shut_down(home, connection, chosen, show, within=off_within)
                elif action == "save":
                    for name in chosen:
                        self._save(home, connection, known[name])
                        show(name, "saved")
                elif action == "restore":
                    for name in chosen:
                        self.restore(home, connection, name)
                        show(name, "restored")
                else:
                    do, done = ((power.pause, "paused") if action == "pause" else (power.resume, "running"))
                    for name in chosen:
                        do(connection, self._domain(name))
                        show(name, done)

    def restore(self, home: Home, connection: Connection, name: str) -> None:
        """Bring one saved machine back.  Whoever calls sees to it that nobody else changes the cluster meanwhile."""
        power.restore(connection, self._domain(name), within=_MEMORY)
        self._place.shelf(home).clear(name)

    def shut_down(self, home: Home, connection: Connection, names: Sequence[str], show: Show, *,
                  within: float = _OFF) -> None:
        """Have these power themselves off; compute nodes first, for the head node serves what they use until then.
        Whoever calls sees to it that nobody else changes the cluster meanwhile."""
        head, known = self.cluster.head.name, self._known(connection)
        for name in names:
            if known[name].state == "saved":
                power.forget_saved(connection, self._domain(name))
                self._place.shelf(home).clear(name)
                show(name, "off; its saved memory is given up")
        up = [name for name in names if known[name].state != "saved"]
        for name in up:
            if known[name].state == "paused":  # it could not heed the request
                power.resume(connection, self._domain(name))
        for group in ([name for name in up if name != head], [name for name in up if name == head]):
            if not group:
                continue
            capacity = self._capacity(known[group[0]])
            patience = within * pace.patience(len(group), "start", capacity)
            ended = power.shut_down(connection, [self._domain(name) for name in group], within=patience)
            for name in group:
                pulled = self._domain(name) in ended
                show(name, f"off; it had to be ended, {patience:g} s after it was asked" if pulled else "off")

    # --- actions

    def _start(self, home: Home, connection: Connection, chosen: Sequence[str], known: Mapping[str, Line], show: Show,
               wait: bool) -> None:
        """The head node first: others may want its services to become ready."""
        self._place.check(home)
        head = self.cluster.head.name
        capacity = self._capacity(known[chosen[0]])
        most = pace.at_once("start", capacity)
        within = pace.deadline(most, "start", capacity)
        for group in ([name for name in chosen if name == head], [name for name in chosen if name != head]):
            if not group:
                continue
            with self._watcher(home, connection, "start again") as watching:
                if head not in group and (head in chosen or (head in known and known[head].state == "running")):
                    watching.guard(head)

                def begin(name: str, watching: Watch = watching) -> None:
                    watching.expect(name, "start again", {"READY"}, within=within)
                    power.start_again(connection, self._domain(name), report=self._run_dir / "report" / name,
                                      more=home.more)

                if wait:
                    for reached in in_waves(watching, group, most, begin):
                        show(reached.machine, "ready")
                else:
                    for name in group:
                        begin(name)
                        show(name, "started")

    def _save(self, home: Home, connection: Connection, line: Line) -> None:
        shelf, name = self._place.shelf(home), line.machine
        try:
            shelf.make_room(name, line.memory_mib + _BESIDES_MIB)
        except UserError as error:
            raise ClusterError(f"{name} cannot be saved: {error.message}", tail=error.tail, hint=error.hint) from None
        try:
            power.save(connection, self._domain(name), shelf.place(name), within=_MEMORY)
        except BaseException:
            with contextlib.suppress(ClusterError):  # what went wrong first is what is worth telling
                if self._known(connection)[name].state != "saved":
                    shelf.clear(name)
            raise

    # --- helpers

    def _choose(self, action: Action, names: Sequence[str], known: Mapping[str, Line]) -> list[str]:
        """The machines meant, in the manifest's order; raises UserError if the action makes no sense for one named."""
        states, words = _SENSIBLE[action]
        for name in names:
            if name not in known:
                raise ClusterError(f"{name} is not installed yet", hint=f"doit cluster:{self.cluster.name}")
            state = known[name].state
            if state not in states:
                raise ClusterError(f"{name} is {state}: {words}", hint=self._hint({state}, f" {name}"))
        chosen = [line.machine for line in known.values()
                  if line.state in states and (not names or line.machine in names)]
        if not chosen:
            told = ", ".join(f"{line.machine} is {line.state}" for line in known.values())
            raise ClusterError(f"{told}: {words}", hint=self._hint({line.state for line in known.values()}))
        return chosen

    def _hint(self, states: set[State], machine: str = "") -> str:
        """What makes sense instead, where all are in one state."""
        follows = _FOLLOWS.get(next(iter(states)), ()) if len(states) == 1 else ()
        return " or ".join(f"doit vm {action} {self.cluster.name}{machine}" for action in follows)

    def _known(self, connection: Connection) -> dict[str, Line]:
        found = {item.metadata.node: Line(item.metadata.node, item.state, item.memory_mib, item.cpus,
                                          item.metadata.accelerator, item.why)
                 for item in power.machines(connection) if item.metadata.cluster == self.cluster.name}
        return {machine.name: found[machine.name] for machine in self.cluster.machines if machine.name in found}

    def _home(self) -> Home:
        return required(self._place.find(), self.cluster.name)

    def _capacity(self, line: Line) -> Capacity:
        """What their host can carry, where machines run as this one does."""
        return self._place.capacity(Found(line.accelerator, "so it was started"))

    def _domain(self, name: str) -> str:
        return domain.name_of(self.cluster.name, name)
