"""The life of a running cluster: boot, install, start, stop; `verification` checks it meanwhile.

Running is separate from building: what runs are throwaway overlays over artifacts, in a run folder
`artifacts/run/CLUSTER/` that is made anew when a cluster is.  What lives is asked (`survey`); each domain carries the
digests of what it was made from, so one whose artifacts have changed is seen.  How a cluster goes on is decided by
`course`, and done here and in `bringing`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import doit

from pipeline import consent, events, naming
from pipeline.checks.result import Verdict
from pipeline.cluster import changing, containers, course, described, records
from pipeline.cluster.bringing import Hands, bring
from pipeline.cluster.composition import Composition
from pipeline.cluster.course import Change, Course
from pipeline.cluster.described import Described
from pipeline.cluster.machines import Machines
from pipeline.cluster.opkgphase import OpkgPhases
from pipeline.cluster.survey import Survey
from pipeline.description import Cluster, Machine
from pipeline.engine import Engine
from pipeline.errors import ClusterError, UserError
from pipeline.exclusive import exclusive
from pipeline.guests import flavours
from pipeline.hypervisor import accelerator, disks, domain, libvirt_xml, logs, pace
from pipeline.hypervisor import lifecycle as machines
from pipeline.hypervisor.connection import Connection, connect
from pipeline.hypervisor.watch import Home, Progress, Watch, watch
from pipeline.identity import Identity
from pipeline.opkgs.phases import When
from pipeline.report.model import Phase
from pipeline.run import cleaning_up
from pipeline.ssh import ClusterShell
from pipeline.step import Made, Plan, Record


def verdict_line(verdict: Verdict) -> str:
    """A verdict in a few words."""
    when = datetime.fromtimestamp(verdict.started).isoformat(" ", "seconds")
    return f"{verdict.outcome} {verdict.count('passed')} of {len(verdict.results)} checks on {when}"


class Lifecycle:
    """One cluster of a plan, whether it runs or not.

    One that was `described` when it was booted needs no plan for what is done with running machines.
    """

    def __init__(self, plan: Plan, name: str, engine: Engine, booted: Described | None = None) -> None:
        self.plan = plan
        self.cluster: Cluster = booted.cluster if booted else plan.clusters[name]
        self.engine = engine
        self.run_dir = engine.own / "run" / name
        self.report_dir = engine.own / "reports" / name
        self.host = booted.host if booted else plan.hosts[self.cluster.host]
        self._notes = records.Notes(self.run_dir)
        self._container = containers.of(self.host, self.cluster, self.run_dir, engine)
        self._survey = Survey(self.cluster, self._container, self.run_dir, self._marks)

    def _marks(self, machine: str) -> Mapping[str, str]:
        """What one would be made of today; of a cluster that was found running without a recipe nobody asks it."""
        return self.composition.marks(machine)

    @functools.cached_property
    def composition(self) -> Composition:
        """What its machines are made of by today's plan."""
        return Composition(self.cluster, self.host, self.made, self.engine)

    @property
    def made(self) -> Made:
        """The tasks that make it, by today's plan."""
        return self.plan.made[self.cluster.name]

    @property
    def _record(self) -> Record:
        return self.plan.verdict(self.cluster.name)

    # --- questions

    def has_reached(self, phase: course.Phase) -> bool:
        """Whether the cluster that runs is made of today's artifacts and has got through boot, install or start."""
        if not self.composition.is_built():
            return False
        reason = self._survey.course(phase).reason
        if reason:
            events.reason(naming.phase(phase, self.cluster.name), reason)
        return not reason

    def has_verdict(self) -> bool:
        """Whether these very artifacts have passed verification by today's checks, and nobody wants it anew."""
        if doit.get_var("fresh"):
            events.reason(self._record.task, "--fresh: verified anew")
            return False
        verdict = self.verdict()
        if verdict is None:
            events.reason(self._record.task, self.engine.keys.why(self._record))
            return False
        page = self.report_dir / "report.html"
        where = f"; report: {page}" if page.exists() else ""  # the verdict may be another checkout's
        events.note(f"{self.cluster.name}: {verdict_line(verdict)}{where}")
        events.outcome(self._record.task, "reused")
        return True

    def verdict(self) -> Verdict | None:
        """The verdict that is kept for today's artifacts, if there is one."""
        entry = self.engine.keys.entry(self._record.task)
        return Verdict.from_json(json.loads((entry.path / "verdict.json").read_bytes())) if entry else None

    def states(self) -> dict[str, str]:
        """What each machine does now, by name; empty where the cluster does not run."""
        home = self._container.find()
        if home is None:
            return {}
        with connect(home.libvirt_uri) as connection:
            return {name: item.state for name, item in self._survey.running(connection).items()}

    def shell(self) -> ClusterShell:
        """Ssh into the running cluster."""
        home = self._home()
        return ClusterShell(self.cluster, self.identity(), home.ssh_proxy_command, self.run_dir / "ssh.log")

    def machines(self) -> Machines:
        """Its machines one by one, to be started, stopped, saved."""
        return Machines(self.cluster, self._container, self.run_dir, self._alone, self._watch)

    def console_argv(self, machine: str) -> list[str] | None:
        """The command that attaches to a machine's console; None where it does not run."""
        if self.states().get(machine) != "running":
            return None
        return machines.console_command(self._home().libvirt_uri, domain.name_of(self.cluster.name, machine))

    def console_log(self, machine: str) -> Path:
        """Where what a machine has written to its console is kept, as it wrote it."""
        path = self.run_dir / "console" / f"{machine}.log"
        if not path.exists():
            raise UserError(f"{machine} has not run yet", hint=f"doit cluster:{self.cluster.name}")
        return path

    # --- phases

    def reach(self, phase: course.Phase) -> None:
        """Get through a phase."""
        if phase == "boot":
            self._boot()
        else:
            self._nodes(phase)

    def _boot(self) -> None:
        """Bring the head node back, or start the cluster anew with it, from throwaway overlays; returns when its
        provisioning services serve."""
        if not self.composition.is_built():
            raise ClusterError(f"{self.cluster.name} is not built", hint=f"doit cluster:{self.cluster.name}")
        with self._alone():
            found = self._survey.course("boot")
            self._require_consent(found)
            if found.anew:
                self._begin()
                return
            with self._spared():
                self._bring("boot", found)
                if found.change is not None:
                    self._change(found.change)

    def stop(self) -> None:
        """End the cluster: machines, daemons, bridges, mounts.  Disks and consoles stay for a look."""
        elsewhere = self._elsewhere()
        if elsewhere is not None:
            elsewhere.stop()
        self._container.stop()
        shutil.rmtree(self.run_dir / "saved", ignore_errors=True)  # no machine is left that this could be restored to

    def _begin(self) -> None:
        """End what there is, and start anew."""
        self.stop()
        self.engine.collect(idle=containers.idle(self.engine.artifacts))
        given = self._prepare()
        started = time.time()
        kind = self._accelerator
        events.note(f"{self.cluster.name}: {kind.why}")
        self._container.require_memory(kind.accelerator, self.cluster.machines)
        with self._held(), self.engine.holder(self.made.parts().values()) as holder:
            self._container.start(given, self.composition.kernels(), holder)
            self.record(Phase("", "networks and disks", started, time.time(), kind.why))
            self._bring("boot", Course({self.cluster.head.name: "start"}))
            self._opkg_phases("head up")

    def _nodes(self, phase: course.Phase) -> None:
        """Install over the network the compute nodes that are not, each of which says DONE and is off then; or bring
        all up from their own disks, or back, until each has said READY."""
        with self._alone():
            found = self._survey.course(phase)
            if found.anew:
                raise ClusterError(f"{self.cluster.name}: {found.anew}", hint=f"doit cluster:{self.cluster.name}")
            self._require_consent(found)
            with self._spared() if self._notes.has("up") else self._held():
                if found.deploy:
                    self._notes.remove("deployed")
                self._bring(phase, found)
                if found.deploy:
                    if self._notes.has("renamed"):
                        changing.tell_nodes(self.shell(), self._notes, patience=self._patience())
                    self._opkg_phases("all up")
                    self._notes.add("deployed")
            if phase == "start":
                self._notes.add("up")

    def _change(self, change: Change) -> None:
        """Bring nodes and names up to today's recipe, but for installing.

        Killed in between, it is done once more by the next run: what the cluster is described as is written last.
        """
        home = self._home()
        self._take_away(home, change.removed)
        added = [self.cluster.machine(name) for name in change.added]
        if added:
            self._take_away(home, change.added)  # what a run that was killed has left of them
            self._container.require_memory(self._accelerator.accelerator, added)
            self._add(home, added)
        archive = self.identity().archive(self.composition.names(), self.composition.settings())
        changing.tell_head(self.shell(), archive, self._notes, patience=self._patience())
        self._opkg_phases("head up")
        described.write(self.run_dir, self.cluster, self.host)

    def _take_away(self, home: Home, names: Sequence[str]) -> None:
        """End machines for good, with their disks and saved memory; one that is not there is no matter."""
        with connect(home.libvirt_uri) as connection:
            for name in names:
                machines.remove(connection, domain.name_of(self.cluster.name, name))
                for note in (f"installed/{name}", f"begun/{name}"):
                    self._notes.remove(note)
                logs.remove(self.run_dir / "report" / name)  # a new one of that name has said nothing yet
        if names:
            self._container.remove(home, names)

    def _add(self, home: Home, added: Sequence[Machine]) -> None:
        """Make room and disks for machines of a cluster that runs."""
        folder = self.run_dir / "disks"
        self._container.add(home, added, [self.composition.disk(machine, folder) for machine in added])

    def _bring(self, phase: course.Phase, found: Course) -> None:
        """Act on a course, and note what has been installed."""
        home = self._home()
        with connect(home.libvirt_uri) as connection:
            if set(found.acts.values()) & {"install", "start", "restart"}:
                self._container.check(home)
            again = [name for name, act in found.acts.items() if act == "restart"]
            self.machines().shut_down(home, connection, again, functools.partial(self._show, phase, "stop"))
            seen = {machine.name: machine for machine in self._survey.seen(connection)}
            ready = {name for name, machine in seen.items() if machine.ready}
            hands = Hands(lambda name: self._start_machine(connection, seen[name], phase),
                          lambda name: machines.resume(connection, domain.name_of(self.cluster.name, name)),
                          lambda name: self.machines().restore(home, connection, name))
            with self._watch(home, connection, phase) as watching:
                for name in ready - found.acts.keys():
                    if seen[name].state == "running":
                        watching.guard(name)
                for reached in bring(watching, phase, found.acts, ready, hands, self.capacity()):
                    if phase == "install":
                        self._notes.add(f"installed/{reached.machine}")

    def _require_consent(self, found: Course) -> None:
        """Raise ClusterError where memory that somebody saved would be lost, and nobody agrees to that."""
        if not found.lost:
            return
        name, lost = self.cluster.name, course.few(found.lost)
        is_done, would_be = (("is made anew", "would be made anew") if found.anew else
                             ("goes on with other definitions", "would go on with other definitions"))
        consent.require(f"{name} {is_done}: {found.reason}.  The saved memory of {lost} is lost then: go on?",
                        ClusterError(f"{name} {would_be}, and the saved memory of {lost} would be lost: "
                                     f"{found.reason}",
                                     hint=f"doit vm restore {name} goes on with it as it was; --yes gives it up"))

    def _start_machine(self, connection: Connection, seen: course.Seen, phase: str) -> None:
        """Start one machine as its definition says, marked with what it is made of."""
        name = seen.name
        if seen.state not in (None, "off"):
            machines.destroy(connection, [domain.name_of(self.cluster.name, name)])
        if phase == "install":
            self._notes.remove(f"installed/{name}")
            if self._notes.has(f"begun/{name}"):
                self._begin_anew(name)
            self._notes.add(f"begun/{name}")
        definition = self.composition.definition(name, installing=phase == "install")
        marks = sorted(self.composition.marks(name).items())
        machines.start(connection, libvirt_xml.for_start(definition, self._accelerator.accelerator, marks),
                       report=self.run_dir / "report" / name)

    def _begin_anew(self, node: str) -> None:
        """An installation did not come to its end, or nobody saw that: another one finds an empty disk, and a head
        node that serves it."""
        home = self._home()
        self._container.remove(home, [node])
        self._add(home, [self.cluster.machine(node)])
        changing.forget(self.shell(), node)

    @functools.cached_property
    def _accelerator(self) -> accelerator.Found:
        """What machines run with on this host; found out once by booting the installer's kernel."""
        kernel = self.engine.entry(naming.netboot(self.cluster.architecture)).path / "kernel"
        return accelerator.find(kernel, cache=self.engine.artifacts / "cache")

    def capacity(self) -> pace.Capacity:
        """What its VM container can carry."""
        return self._container.capacity(self._accelerator.accelerator)

    @contextlib.contextmanager
    def _watch(self, home: Home, connection: Connection, phase: str) -> Iterator[Watch]:
        """Watch the machines, show their progress, and write down when what happened."""

        def show(progress: Progress) -> None:
            self._show(phase, progress.step, progress.machine, progress.detail)

        names = [machine.name for machine in self.cluster.machines]
        with (watch(home, connection, show, fatal=flavours.of(self.cluster.guest).fatal) as watching,
              self._container.consoles(home, names, watching.fail)):
            try:
                yield watching
            finally:
                self.record(*(Phase(span.machine, f"{span.phase}/{span.step}" if span.step else span.phase,
                                     span.start, span.end) for span in watching.timeline))

    def _show(self, phase: str, step: str, machine: str, detail: str) -> None:
        events.phase(naming.phase(phase, self.cluster.name), machine, step, detail)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """No other run brings this cluster up meanwhile."""
        name = self.cluster.name
        return exclusive(self.run_dir.parent / f".{name}.lock", f"another run is bringing {name} up",
                         hint=f"wait for it, or end it all: doit stop:{name}")

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """A cluster that does not get through a phase is ended, even if this run is killed; its disks and consoles
        stay for a look."""
        try:
            with self._container.lease():
                yield
        except BaseException:
            with cleaning_up():
                self._container.stop()
            raise

    @contextlib.contextmanager
    def _spared(self) -> Iterator[None]:
        """What once came up is left as it is, whatever becomes of one of its machines."""
        name = self.cluster.name
        try:
            with self._container.explained():
                yield
        except ClusterError as error:
            left = f"{name} is left as it is; after doit vm stop {name} MACHINE the next run starts that one afresh"
            error.hint = "; ".join(filter(None, (error.hint, left)))
            raise

    def _opkg_phases(self, when: When) -> None:
        """Run the OPKGs' scripts for what has its place now on the head node."""
        present = {path for path, _ in self.plan.steps[self.made.stacks["head"].opkgs].files}
        OpkgPhases(self.cluster, present, self.run_dir, self.record).run(when, self.shell(), patience=self._patience())

    def _patience(self) -> float:
        """How many times as long what is done with all nodes may take as with a few."""
        return pace.patience(len(self.cluster.nodes), "verify", self.capacity())

    # --- helpers

    def _elsewhere(self) -> containers.Container | None:
        """Where the cluster was booted, if that is not where its recipe has it by now."""
        try:
            booted = described.read(self.run_dir)
        except ClusterError:  # another version's: the recipe is all there is to go by
            return None
        if booted is None or booted.host == self.host:
            return None
        return containers.of(booted.host, booted.cluster, self.run_dir, self.engine)

    def _home(self) -> Home:
        return containers.required(self._container.find(), self.cluster.name)

    def identity(self) -> Identity:
        """The cluster's secrets and keys; made on first use."""
        return Identity(self.engine.own / "identity" / self.cluster.name, self.cluster)

    def _prepare(self) -> list[disks.Given]:
        """A fresh run folder: overlays over the artifacts, the SIS image, the identity disk."""
        shutil.rmtree(self.run_dir, ignore_errors=True)
        folder = self.run_dir / "disks"
        folder.mkdir(parents=True)
        self.run_dir.chmod(0o700)
        described.write(self.run_dir, self.cluster, self.host)
        given = [self.composition.disk(machine, folder) for machine in self.cluster.machines]
        return [*given, self.composition.image(folder), self._identity_disk()]

    def _identity_disk(self) -> disks.Given:
        """What the head node gets for itself and for the nodes: names, settings, identities."""
        file = self.run_dir / "disks" / "identity.img"
        self.identity().write_archive(file, self.composition.names(), self.composition.settings())
        return disks.Given("identity", file, file, "", readonly=True)

    def timeline(self) -> list[Phase]:
        """What the machines did when, since they were booted."""
        return records.read(self.run_dir / "timeline.jsonl")

    def record(self, *phases: Phase) -> None:
        records.append(self.run_dir / "timeline.jsonl", *phases)
