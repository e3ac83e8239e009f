"""What can be done to machines of a cluster that runs, over one connection to its libvirt.

Whoever does it sees to it that nobody else changes the cluster meanwhile.  Where a machine's memory is saved is its
place's to say.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.bringing import in_waves
from pipeline.cluster.records import Notes
from pipeline.description import Cluster
from pipeline.drivers import domain, libvirt_xml
from pipeline.drivers.domain import Accelerator
from pipeline.drivers.libvirt_xml import Metadata
from pipeline.errors import ClusterError, NotNow, UserError
from pipeline.hosts.place import Place
from pipeline.virt import hardware, pace, power
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import Connection
from pipeline.virt.hardware import Block
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity
from pipeline.virt.power import State
from pipeline.virt.watch import Watch

#: Makes the watch of a phase.
Watcher = Callable[[Home, Connection, str], AbstractContextManager[Watch]]
#: A machine, and what became of it.
Told = tuple[str, str]
#: How a machine is started again by today's recipe, from its name and how it was started; None = as it is defined.
Today = Callable[[str, Metadata], str | None]

#: Deadlines in seconds: to power off, to write or read memory; as generous as those of a cluster's start.
OFF, _MEMORY = 120, 600

#: For what a saved machine's file holds besides memory.
_BESIDES_MIB = 64


@dataclass(frozen=True)
class Line:
    """One machine in a list; `memory_mib` is the most that it can have, `has_mib` what it has now; `why` it is paused,
    where nobody has paused it."""

    machine: str
    state: State
    memory_mib: int
    has_mib: int
    cpus: int
    accelerator: Accelerator
    why: str = ""


@dataclass(frozen=True)
class Effect:
    """What came of giving a machine something: whether it has it now, and in words what it has and when the rest."""

    now: bool
    words: str


@dataclass(frozen=True)
class Action:
    """Something that is done to machines: `do` does it to those, in the manifest's order, and tells what became of
    each.

    It makes sense for machines in one of `states`; `otherwise` says so.  `follows` are states of which it is what one
    usually wants next.
    """

    states: Set[State]
    otherwise: str
    follows: Set[State]
    do: Callable[[Acting, Sequence[str], argparse.Namespace], Iterator[Told]]


class Acting:
    """The machines of one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        place: Place,
        run_dir: Path,
        watcher: Watcher,
        home: Home,
        connection: Connection,
        today: Today,
    ) -> None:
        self.cluster = cluster
        self._place = place
        self._run_dir = run_dir
        self._watcher = watcher
        self._home = home
        self._connection = connection
        self._today = today

    def known(self) -> dict[str, Line]:
        """Every machine that is defined, by name, in the manifest's order."""
        found = {
            item.metadata.node: Line(
                item.metadata.node,
                item.state,
                item.memory_mib,
                item.has_mib,
                item.cpus,
                item.metadata.accelerator,
                item.why,
            )
            for item in power.machines(self._connection)
            if item.metadata.cluster == self.cluster.name
        }
        return {machine.name: found[machine.name] for machine in self.cluster.machines if machine.name in found}

    def pause(self, name: str) -> None:
        """Hold a machine."""
        power.pause(self._connection, self._domain(name))

    def resume(self, name: str) -> None:
        """Let a paused machine go on."""
        power.resume(self._connection, self._domain(name))

    def reset(self, name: str) -> None:
        """Start a machine anew without asking it."""
        if not power.reset(self._connection, self._domain(name)):
            self._place.check(self._home)
            power.destroy(self._connection, [self._domain(name)])
            report = self._run_dir / "report" / name
            power.start_again(self._connection, self._domain(name), report=report, more=self._home.more)

    def definition(self, name: str) -> tuple[str, bool]:
        """How a machine is started next, in libvirt's notation, and whether today's recipe has changed that."""
        defined = power.definition(self._connection, self._domain(name))
        today = self._today(name, libvirt_xml.read_metadata(defined))
        return (defined, False) if today is None else (today, True)

    def disks(self, name: str) -> list[Block]:
        """What a machine has for disks."""
        return hardware.disks(self._connection, self._domain(name))

    def adjust(self, name: str, state: State | None, what: str, value: int) -> Effect:
        """Give a machine that runs memory ("memory_mib") or processors ("cpus")."""
        if state == "saved":
            return Effect(False, "when it starts from its disk; restored, it has what it was saved with")
        if state != "running":
            return Effect(False, "at its next start")
        give, unit = (hardware.give_memory, " MiB") if what == "memory_mib" else (hardware.give_cpus, "")
        try:
            given = give(self._connection, self._domain(name), value)
        except ClusterError as error:
            return Effect(False, f"at its next start; not now: {error.message}")
        if given.has == value:
            return Effect(True, "now")
        if given.has != given.asked:
            return Effect(False, f"at its next start; its system does not follow: it has {given.has}{unit} now")
        return Effect(False, f"at its next start; now {given.has}{unit}, the most that it was started with")

    def start(self, names: Sequence[str], *, wait: bool = True) -> Iterator[Told]:
        """Start machines from their disks, and wait until each is ready; the head node first: others may want its
        services for that."""
        cluster = self.cluster.name
        for name in names:
            if Notes(self._run_dir).has(f"again/{name}"):
                raise NotNow(
                    f"{name} is to be installed anew, instead of its next start",
                    hint=f"doit vm install {cluster} {name} does it; or doit vm set {cluster} {name} next-boot=os",
                )
        self._place.check(self._home)
        head, known = self.cluster.head.name, self.known()
        capacity = self._capacity(known[names[0]])
        most = pace.at_once("start", capacity)
        within = pace.deadline(most, "start", capacity)
        for group in ([name for name in names if name == head], [name for name in names if name != head]):
            if not group:
                continue
            with self._watcher(self._home, self._connection, "start again") as watching:
                if head not in group and (head in names or (head in known and known[head].state == "running")):
                    watching.guard(head)

                def begin(name: str, watching: Watch = watching) -> None:
                    watching.expect(name, "start again", {"READY"}, within=within)
                    self._begin(name)

                if wait:
                    for reached in in_waves(watching, group, most, begin):
                        yield reached.machine, "ready"
                else:
                    for name in group:
                        begin(name)
                        yield name, "started"

    def shut_down(self, names: Sequence[str], *, within: float = OFF) -> Iterator[Told]:
        """Have machines power themselves off, compute nodes first: the head node serves what they use until then."""
        head, known = self.cluster.head.name, self.known()
        yield from self._give_up(names, known)
        up = [name for name in names if known[name].state != "saved"]
        for name in up:
            if known[name].state == "paused":  # it could not heed the request
                self.resume(name)
        for group in ([name for name in up if name != head], [name for name in up if name == head]):
            if not group:
                continue
            patience = within * pace.patience(len(group), "start", self._capacity(known[group[0]]))
            ended = power.shut_down(self._connection, [self._domain(name) for name in group], within=patience)
            for name in group:
                pulled = self._domain(name) in ended
                yield name, f"off; it had to be ended, {patience:g} s after it was asked" if pulled else "off"

    def pull(self, names: Sequence[str]) -> Iterator[Told]:
        """End machines at once, without asking them."""
        known = self.known()
        yield from self._give_up(names, known)
        for name in names:
            if known[name].state != "saved":
                power.destroy(self._connection, [self._domain(name)])
                yield name, "off; it was not asked"

    def _give_up(self, names: Sequence[str], known: Mapping[str, Line]) -> Iterator[Told]:
        """The memory of those that are saved goes: they are off."""
        for name in names:
            if known[name].state == "saved":
                power.forget_saved(self._connection, self._domain(name))
                self._place.shelf(self._home).clear(name)
                yield name, "off; its saved memory is given up"

    def save(self, name: str) -> None:
        """Write a machine's memory to a file where it runs, and end it."""
        shelf = self._place.shelf(self._home)
        try:
            shelf.make_room(name, self.known()[name].memory_mib + _BESIDES_MIB)
        except UserError as error:
            raise error.about(f"{name} cannot be saved") from None
        try:
            power.save(self._connection, self._domain(name), shelf.place(name), within=_MEMORY)
        except BaseException:
            with contextlib.suppress(ClusterError):  # what went wrong first is what is worth telling
                if self.known()[name].state != "saved":
                    shelf.clear(name)
            raise

    def restore(self, name: str) -> None:
        """Bring one saved machine back, to go on where it was."""
        power.restore(self._connection, self._domain(name), within=_MEMORY)
        self._place.shelf(self._home).clear(name)

    def _begin(self, name: str) -> None:
        """Start a machine that is off, from its disk."""
        report = self._run_dir / "report" / name
        definition, is_changed = self.definition(name)
        if is_changed:
            power.start(self._connection, definition, report=report, more=self._home.more)
        else:
            power.start_again(self._connection, self._domain(name), report=report, more=self._home.more)

    def _capacity(self, line: Line) -> Capacity:
        """What their host can carry, where machines run as this one does."""
        return self._place.capacity(Found(line.accelerator, "so it was started"))

    def _domain(self, name: str) -> str:
        return domain.name_of(self.cluster.name, name)
