"""The machines of a running cluster one by one: list, start, stop, pause and resume, save and restore.

The same for every hypervisor.  A machine's memory is saved where its hypervisor runs: in the run folder for QEMU, on
the VM container for Xen.  That is the only thing that differs here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipeline.cluster import containers
from pipeline.cluster.bringing import in_waves
from pipeline.description import Cluster
from pipeline.errors import ClusterError, UserError
from pipeline.hypervisor import disks, domain, lifecycle, pace
from pipeline.hypervisor.connection import Connection, connect
from pipeline.hypervisor.domain import Accelerator
from pipeline.hypervisor.lifecycle import State
from pipeline.hypervisor.watch import Home, Watch

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


class Shelf(Protocol):
    """Where the memory of a cluster's saved machines lies."""

    def place(self, machine: str) -> str:
        """The file for a machine's memory, as its libvirt sees it."""

    def make_room(self, machine: str, mib: int) -> None:
        """The folder is there, and that much fits; raises ClusterError where it does not."""

    def clear(self, machine: str) -> None:
        """Remove the file, if it is there."""


class LocalShelf:
    """In the run folder, which a cluster's own libvirt sees as `domain.RUN`."""

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir / "saved"

    def place(self, machine: str) -> str:
        return f"{domain.RUN}/saved/{machine}"

    def make_room(self, machine: str, mib: int) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self.clear(machine)
        disks.require_space(self._folder, mib)

    def clear(self, machine: str) -> None:
        (self._folder / machine).unlink(missing_ok=True)


class RemoteShelf:
    """In the cluster's folder on a Xen host; `run` runs POSIX sh text there."""

    def __init__(self, cluster: str, run: Callable[[str], object]) -> None:
        self._folder = f"{domain.folder_of(cluster)}/saved"
        self._run = run

    def place(self, machine: str) -> str:
        return f"{self._folder}/{machine}"

    def make_room(self, machine: str, mib: int) -> None:
        self._run(f"""mkdir -p -m 0700 {self._folder} && rm -f {self.place(machine)} || exit 1
free=$(df --output=avail -BM {self._folder} | tail -n 1 | tr -dc 0-9)
[ "$free" -ge {mib} ] || {{ echo "{machine} needs {mib} MiB in {self._folder}, $free are free" >&2; exit 1; }}""")

    def clear(self, machine: str) -> None:
        self._run(f"rm -f {self.place(machine)}")


class Machines:
    """The machines of one cluster that runs.

    `alone` keeps others from changing the cluster meanwhile; `watcher` makes a watch of its machines.
    """

    def __init__(self, cluster: Cluster, container: containers.Container, run_dir: Path,
                 alone: Callable[[], AbstractContextManager[None]], watcher: Watcher) -> None:
        self.cluster = cluster
        self._container = container
        self._run_dir = run_dir
        self._alone = alone
        self._watcher = watcher

    def runs(self) -> bool:
        """Whether the cluster runs."""
        return self._container.find() is not None

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
                    do, done = ((lifecycle.pause, "paused") if action == "pause" else (lifecycle.resume, "running"))
                    for name in chosen:
                        do(connection, self._domain(name))
                        show(name, done)

    def restore(self, home: Home, connection: Connection, name: str) -> None:
        """Bring one saved machine back.  Whoever calls sees to it that nobody else changes the cluster meanwhile."""
        lifecycle.restore(connection, self._domain(name), within=_MEMORY)
        self._shelf(home).clear(name)

    def shut_down(self, home: Home, connection: Connection, names: Sequence[str], show: Show, *,
                  within: float = _OFF) -> None:
        """Have these power themselves off; compute nodes first, for the head node serves what they use until then.
        Whoever calls sees to it that nobody else changes the cluster meanwhile."""
        head, known = self.cluster.head.name, self._known(connection)
        for name in names:
            if known[name].state == "saved":
                lifecycle.forget_saved(connection, self._domain(name))
                self._shelf(home).clear(name)
                show(name, "off; its saved memory is given up")
        up = [name for name in names if known[name].state != "saved"]
        for name in up:
            if known[name].state == "paused":  # it could not heed the request
                lifecycle.resume(connection, self._domain(name))
        for group in ([name for name in up if name != head], [name for name in up if name == head]):
            if not group:
                continue
            capacity = self._container.capacity(known[group[0]].accelerator)
            patience = within * pace.patience(len(group), "start", capacity)
            ended = lifecycle.shut_down(connection, [self._domain(name) for name in group], within=patience)
            for name in group:
                pulled = self._domain(name) in ended
                show(name, f"off; it had to be ended, {patience:g} s after it was asked" if pulled else "off")

    # --- actions

    def _start(self, home: Home, connection: Connection, chosen: Sequence[str], known: Mapping[str, Line], show: Show,
               wait: bool) -> None:
        """The head node first: others may want its services to become ready."""
        self._container.check(home)
        head = self.cluster.head.name
        capacity = self._container.capacity(known[chosen[0]].accelerator)
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
                    lifecycle.start_again(connection, self._domain(name), report=self._run_dir / "report" / name)

                if wait:
                    for reached in in_waves(watching, group, most, begin):
                        show(reached.machine, "ready")
                else:
                    for name in group:
                        begin(name)
                        show(name, "started")

    def _save(self, home: Home, connection: Connection, line: Line) -> None:
        shelf, name = self._shelf(home), line.machine
        try:
            shelf.make_room(name, line.memory_mib + _BESIDES_MIB)
        except UserError as error:
            raise ClusterError(f"{name} cannot be saved: {error.message}", tail=error.tail, hint=error.hint) from None
        try:
            lifecycle.save(connection, self._domain(name), shelf.place(name), within=_MEMORY)
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
                 for item in lifecycle.machines(connection) if item.metadata.cluster == self.cluster.name}
        return {machine.name: found[machine.name] for machine in self.cluster.machines if machine.name in found}

    def _home(self) -> Home:
        return containers.required(self._container.find(), self.cluster.name)

    def _domain(self, name: str) -> str:
        return domain.name_of(self.cluster.name, name)

    def _shelf(self, home: Home) -> Shelf:
        from pipeline.xenhost.home import XenHome

        return RemoteShelf(self.cluster.name, home.access.run) if isinstance(home, XenHome) else LocalShelf(
            self._run_dir)

