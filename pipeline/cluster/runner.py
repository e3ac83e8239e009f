"""Machines are brought up in their cluster's place, and watched meanwhile: a cluster's, or the one of a testbed.

What runs are throwaway overlays over artifacts, in a run folder that is made anew when the cluster is.  What lives is
asked (`survey`); each domain carries the digests of what it was made from, so one whose artifacts have changed is seen.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import events
from pipeline.cluster import added, course, described, records
from pipeline.cluster.course import Course
from pipeline.cluster.survey import Survey
from pipeline.description import Cluster, Host, Machine
from pipeline.drivers import domain, libvirt_xml
from pipeline.drivers.domain import Purpose
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.exclusive import exclusive
from pipeline.guests import flavours
from pipeline.hosts import idle, kinds
from pipeline.hosts.place import required
from pipeline.report.model import Phase
from pipeline.run import cleaning_up
from pipeline.virt import accelerator, logs, pace, power
from pipeline.virt.connection import Connection, connect
from pipeline.virt.disks import Given
from pipeline.virt.home import Home

if TYPE_CHECKING:
    from pipeline.cluster.acting import Today
    from pipeline.cluster.machines import Machines
    from pipeline.virt.progress import Progress
    from pipeline.virt.watch import Watch


class Parts(Protocol):
    """What the machines are made of."""

    netboot: str
    """The task of the installer; its kernel shows which accelerator works."""

    def tasks(self) -> Iterable[str]:
        """All of it, as tasks."""

    def marks(self, machine: str) -> Mapping[str, str]:
        """Role -> digest of all that a machine is made of."""

    def definition(self, machine: str, purpose: Purpose) -> str:
        """How libvirt is told of a machine that is started for this."""

    def disks(self, machines: Sequence[Machine], folder: Path) -> list[Given]:
        """Fresh disks of machines, in a folder."""

    def given(self, folder: Path) -> list[Given]:
        """What the head node is given besides."""

    def kernels(self) -> Mapping[str, Path]:
        """What an engine loads itself, by the name that definitions know."""


class Runner:
    """The machines of one cluster.  `parts` are those of today; `task` is what doit calls a phase of it.

    `wanted` is what a person says to have it.
    """

    def __init__(
        self,
        cluster: Cluster,
        host: Host,
        run_dir: Path,
        engine: Engine,
        parts: Callable[[], Parts],
        task: Callable[[str], str],
        wanted: str,
    ) -> None:
        self.cluster = cluster
        self.host = host
        self.run_dir = run_dir
        self.engine = engine
        self.notes = records.Notes(run_dir)
        self.place = kinds.place(host, cluster, run_dir, engine.artifacts)
        self.survey = Survey(cluster, self.place, run_dir, self._marks)
        self._parts = parts
        self._task = task
        self._wanted = wanted

    @functools.cached_property
    def parts(self) -> Parts:
        """What the machines would be made of today; nobody asks of a cluster that was found running without recipe."""
        return self._parts()

    def _marks(self, machine: str) -> Mapping[str, str]:
        return self.parts.marks(machine)

    def home(self) -> Home:
        """Where it lives; raises ClusterError where it does not run."""
        return required(self.place.find(), self.cluster.name)

    def machines(self, today: Today = lambda _name, _started: None) -> Machines:
        """Its machines one by one, to be started, stopped, saved; `today` says of one that starts again how."""
        from pipeline.cluster.machines import Machines

        return Machines(self.cluster, self.place, self.run_dir, self.alone, self.watch, today)

    # --- the whole cluster

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """End what there is, and start anew, until the head node says that it is ready.

        What fails in the block, or is killed there, ends the cluster.
        """
        name = self.cluster.name
        self.stop()
        self.engine.collect(idle=idle.run_folders(self.engine.artifacts))
        given = self._prepare()
        self.notes.add(f"booted-by/{records.THIS_RUN}")
        started = time.time()
        events.note(f"{name}: {self._accelerator.why}")
        self.place.require_memory(self._accelerator, self.cluster.machines)
        with self.held(), self.engine.holder(self.parts.tasks()) as holder:
            self.place.start(given, self.parts.kernels(), holder)
            self.record(Phase("", "networks and disks", started, time.time(), self._accelerator.why))
            self.bring("boot", Course({self.cluster.head.name: "start"}))
            yield

    def stop(self) -> bool:
        """End the cluster: machines, daemons, bridges, mounts; whether there was anything to end.  Disks and consoles
        stay for a look."""
        ended = self.place.find() is not None
        self.place.stop()
        shutil.rmtree(self.run_dir / "saved", ignore_errors=True)  # no machine is left that this could be restored to
        return ended

    def _prepare(self) -> list[Given]:
        """A fresh run folder: overlays over the artifacts, and what the head node is given."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        folder = self.run_dir / "disks"
        folder.mkdir(parents=True)
        self.run_dir.chmod(0o700)
        described.write(self.run_dir, self.cluster, self.host)
        return [*self.parts.disks(self.cluster.machines, folder), *self.parts.given(folder)]

    # --- its machines

    def bring(self, phase: course.Phase, found: Course) -> None:
        """Act on a course, and note what has been installed."""
        from pipeline.cluster.bringing import Hands, bring

        home = self.home()
        with connect(home.libvirt_uri) as connection:
            if set(found.acts.values()) & {"install", "start", "restart"}:
                self.place.check(home)
            again = [name for name, act in found.acts.items() if act == "restart"]
            acting = self.machines().over(home, connection)
            for name, words in acting.shut_down(again):
                self._show(phase, "stop", name, words)
            seen = {machine.name: machine for machine in self.survey.seen(connection)}
            ready = {name for name, machine in seen.items() if machine.ready}
            hands = Hands(lambda name: self._start(connection, seen[name], phase), acting.resume, acting.restore)
            with self.watch(home, connection, phase) as watching:
                for name in ready - found.acts.keys():
                    if seen[name].state == "running":
                        watching.guard(name)
                for reached in bring(watching, phase, found.acts, ready, hands, self.capacity()):
                    if phase == "install":
                        self.notes.add(f"installed/{reached.machine}")

    def take_away(self, names: Sequence[str]) -> None:
        """End machines for good, with their disks and saved memory; one that is not there is no matter.

        One of that name that comes back is begun anew, whatever was done of this when it was killed.
        """
        if not names:
            return
        home = self.home()
        with connect(home.libvirt_uri) as connection:
            for name in names:
                self.notes.add(f"begun/{name}")
                power.remove(connection, domain.name_of(self.cluster.name, name))
                self.notes.remove(f"installed/{name}")
                added.Notes(self.run_dir).forget(name)
                logs.remove(self.run_dir / "report" / name)  # a new one of that name has said nothing yet
        self.place.remove(home, names)

    def add(self, names: Sequence[str]) -> None:
        """Make room and fresh disks for machines of a cluster that runs; what there is of them goes."""
        if not names:
            return
        self.take_away(names)
        added = [self.cluster.machine(name) for name in names]
        self.place.require_memory(self._accelerator, added)
        self.place.add(self.home(), added, self.parts.disks(added, self.run_dir / "disks"))

    def _start(self, connection: Connection, seen: course.Seen, phase: str) -> None:
        """Start one machine as its definition says, marked with what it is made of."""
        name = seen.name
        if seen.state not in (None, "off"):
            power.destroy(connection, [domain.name_of(self.cluster.name, name)])
        if phase == "install":
            self.notes.remove(f"installed/{name}")
            self.notes.add(f"begun/{name}")
            self.notes.remove(f"again/{name}")
            added.Notes(self.run_dir).forget(name)
        purpose: Purpose = "install" if phase == "install" else "run"
        if purpose == "run":
            self.place.provide(self.home(), self.cluster.machine(name))
        definition = self.parts.definition(name, purpose)
        marks = sorted(self.parts.marks(name).items())
        power.start(
            connection,
            libvirt_xml.for_start(definition, self._accelerator.accelerator, marks),
            report=self.run_dir / "report" / name,
            more=self.home().more,
        )

    # --- what it takes

    @functools.cached_property
    def _accelerator(self) -> accelerator.Found:
        """What machines run with; on this machine that is found out once, by booting the installer's kernel."""

        def here() -> accelerator.Found:
            kernel = self.engine.entry(self.parts.netboot).path / "kernel"
            return accelerator.find(kernel, cache=self.engine.artifacts / "cache")

        return self.place.accelerator(here)

    def capacity(self) -> pace.Capacity:
        """What its host can carry."""
        return self.place.capacity(self._accelerator)

    @contextlib.contextmanager
    def watch(self, home: Home, connection: Connection, phase: str) -> Iterator[Watch]:
        """Watch the machines, show their progress, and write down when what happened."""
        from pipeline.virt.watch import watch

        def show(progress: Progress) -> None:
            self._show(phase, progress.step, progress.machine, progress.detail)

        names = [machine.name for machine in self.cluster.machines]
        with (
            watch(home, connection, show, fatal=flavours.of(self.cluster.guest).fatal) as watching,
            self.place.consoles(home, names, watching.fail),
        ):
            try:
                yield watching
            finally:
                self.record(
                    *(
                        Phase(
                            span.machine, f"{span.phase}/{span.step}" if span.step else span.phase, span.start, span.end
                        )
                        for span in watching.timeline
                    )
                )

    def _show(self, phase: str, step: str, machine: str, detail: str) -> None:
        events.phase(self._task(phase), machine, step, detail)

    def alone(self) -> AbstractContextManager[None]:
        """No other run brings this cluster up meanwhile."""
        name = self.cluster.name
        return exclusive(
            self.run_dir.parent / f".{name}.lock",
            f"another run is bringing {name} up",
            hint=f"wait for it, or end it all: doit stop:{name}",
        )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """A cluster that does not get through a phase is ended, even if this run is killed; its disks and consoles
        stay for a look."""
        try:
            with self.place.lease():
                yield
        except BaseException:
            with cleaning_up():
                self.place.stop()
            raise

    @contextlib.contextmanager
    def spared(self) -> Iterator[None]:
        """What once came up is left as it is, whatever becomes of one of its machines."""
        name = self.cluster.name
        try:
            with self.place.explained():
                yield
        except ClusterError as error:
            left = f"{name} is left as it is; after doit vm stop {name} MACHINE the next run starts that one afresh"
            error.hint = "; ".join(filter(None, (error.hint, left)))
            raise

    def is_built(self) -> bool:
        """Whether all that the machines are made of is there."""
        return all(self.engine.keys.entry(task) is not None for task in self.parts.tasks())

    def require_built(self) -> None:
        """Raise ClusterError where something is missing."""
        if not self.is_built():
            raise ClusterError(f"{self.cluster.name} is not built", hint=self._wanted)

    # --- what happened

    def timeline(self) -> list[Phase]:
        """What the machines did when, since they were booted."""
        return records.read(self.run_dir / "timeline.jsonl")

    def record(self, *phases: Phase) -> None:
        records.append(self.run_dir / "timeline.jsonl", *phases)
