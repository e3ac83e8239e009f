"""The life of a running cluster: boot, install, start, stop; `verification` checks it meanwhile.

Running is separate from building.  How a cluster goes on is decided by `course`, and its machines are brought there by
`runner`; what a cluster has besides machines is here: OPKGs that are told, names that change, a verdict.

What only an act needs is imported by it: a run with nothing to do only asks, and shall end at once.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import doit

from pipeline import consent, events, naming
from pipeline.checks.result import Verdict
from pipeline.cluster import added, course, described, records
from pipeline.cluster.composition import Composition
from pipeline.cluster.course import Change, Course
from pipeline.cluster.described import Described
from pipeline.cluster.runner import Runner
from pipeline.description import Cluster
from pipeline.drivers import domain, libvirt_xml
from pipeline.drivers.libvirt_xml import Metadata
from pipeline.engine import Engine
from pipeline.errors import ClusterError, NotNow, UserError
from pipeline.hosts import kinds
from pipeline.step import Made, Plan, Record
from pipeline.store import remove
from pipeline.virt import pace, power
from pipeline.virt.connection import connect

if TYPE_CHECKING:
    from pipeline.cluster.machines import Machines
    from pipeline.identity import Identity
    from pipeline.opkgs.phases import When
    from pipeline.shell import ClusterShell


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
        self.copy_of = booted.copy_of if booted else ""
        self.runner = Runner(
            self.cluster,
            self.host,
            self.run_dir,
            engine,
            lambda: self.composition,
            lambda phase: naming.phase(phase, name),
            wanted=f"doit cluster:{name}",
        )
        self._notes = self.runner.notes
        self.added = added.Notes(self.run_dir)

    @functools.cached_property
    def composition(self) -> Composition:
        """What its machines are made of by today's plan."""
        return Composition(self.cluster, self.host, self.made, self.engine)

    @property
    def made(self) -> Made:
        """The tasks that make it, by today's plan; a copy is made of what its cluster is.  NotNow without a recipe."""
        name = self.copy_of or self.cluster.name
        if name not in self.plan.made:
            raise NotNow(f"{name} has no recipe that says what it is made of")
        return self.plan.made[name]

    @property
    def _record(self) -> Record:
        return self.plan.verdict(self.cluster.name)

    # --- questions

    def has_reached(self, phase: course.Phase) -> bool:
        """Whether the cluster that runs is made of today's artifacts and has got through boot, install or start."""
        if not self.runner.is_built():
            return False
        reason = self.runner.survey.course(phase).reason
        if reason:
            events.reason(naming.phase(phase, self.cluster.name), reason)
        return not reason

    def has_verdict(self) -> bool:
        """Whether these very artifacts have passed verification by today's checks, and nobody wants it anew."""
        if doit.get_var("fresh"):
            events.reason(self._record.task, "--fresh: verified anew")
            return False
        differs = self.added.told(machine.name for machine in self.cluster.machines)
        if differs and self.states():  # of machines that are gone nothing is asked
            events.reason(self._record.task, f"{differs}: a verdict on its recipe is not about that")
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

    @property
    def booted_here(self) -> bool:
        """Whether it is this process that has booted it."""
        return self._notes.has(f"booted-by/{records.THIS_RUN}")

    @property
    def verified_here(self) -> bool:
        """Whether it is this process that has verified it since it was booted."""
        return self._notes.has(f"verified-by/{records.THIS_RUN}")

    def states(self) -> dict[str, str]:
        """What each machine does now, by name; empty where the cluster does not run."""
        home = self.runner.place.find()
        if home is None:
            return {}
        with connect(home.libvirt_uri) as connection:
            return {name: item.state for name, item in self.runner.survey.running(connection).items()}

    def identity(self) -> Identity:
        """The cluster's secrets and keys; made on first use.  Those of a copy go with it."""
        from pipeline.identity import Identity

        if self.copy_of:
            return Identity(self.run_dir / "identity", self.cluster)
        return Identity.of(self.engine.own, self.cluster)

    def shell(self) -> ClusterShell:
        """Ssh into the running cluster."""
        from pipeline.shell import ClusterShell

        home = self.runner.home()
        return ClusterShell(self.cluster, self.identity(), home.ssh_proxy_command, self.run_dir / "ssh.log")

    def machines(self) -> Machines:
        """Its machines one by one, to be started, stopped, saved."""
        return self.runner.machines(self._today)

    def _today(self, name: str, started: Metadata) -> str | None:
        """How a machine starts again that its recipe gives other memory or processors by now, and is in nothing else
        made of anything but what it was started with; None for all others."""
        before, now = self.cluster, self.plan.clusters.get(self.cluster.name)
        if self.copy_of or now is None or name not in [machine.name for machine in now.machines]:
            return None
        one, other = before.machine(name), now.machine(name)
        if one == other or one != dataclasses.replace(other, memory_mib=one.memory_mib, cpus=one.cpus):
            return None
        if self.engine.keys.entry(self.made.definitions[name]) is None:
            self.engine.build(self.made.definitions[name])
        marks, made_of = self.composition.marks(name), dict(started.artifacts)
        if {**marks, "definition": ""} != {**made_of, "definition": ""}:
            return None
        definition = self.composition.definition(name, "run")
        return libvirt_xml.for_start(definition, started.accelerator, sorted(marks.items()))

    def capacity(self) -> pace.Capacity:
        """What its host can carry."""
        return self.runner.capacity()

    def console_argv(self, machine: str) -> list[str] | None:
        """The command that attaches to a machine's console; None where it does not run."""
        if self.states().get(machine) != "running":
            return None
        return power.console_command(self.runner.home().libvirt_uri, domain.name_of(self.cluster.name, machine))

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
        self.runner.require_built()
        with self.runner.alone():
            found = self.runner.survey.course("boot")
            self.require_consent(found)
            if found.anew:
                self._stop_elsewhere()
                with self.runner.begun():
                    self._opkg_phases("head up")
                return
            with self.runner.spared():
                self.runner.bring("boot", found)
                if found.change is not None:
                    self._change(found.change)

    def stop(self) -> None:
        """End the cluster: machines, daemons, bridges, mounts.  Disks and consoles stay for a look; a copy's do not."""
        self._stop_elsewhere()
        self.runner.stop()
        if self.copy_of:
            remove(self.run_dir)

    def _nodes(self, phase: course.Phase) -> None:
        """Install over the network the compute nodes that are not, each of which says DONE and is off then; or bring
        all up from their own disks, or back, until each has said READY."""
        with self.runner.alone():
            found = self.runner.survey.course(phase)
            if found.anew:
                raise ClusterError(f"{self.cluster.name}: {found.anew}", hint=f"doit cluster:{self.cluster.name}")
            self.require_consent(found)
            with self.runner.spared() if self._notes.has("up") else self.runner.held():
                if found.deploy:
                    self._notes.remove("deployed")
                if phase == "install":
                    self.begin_anew([name for name in found.acts if self._notes.has(f"begun/{name}")])
                self.runner.bring(phase, found)
                if found.deploy:
                    self.deploy()
            if phase == "start":
                self._notes.add("up")

    def begin_anew(self, nodes: Sequence[str]) -> None:
        """An installation did not come to its end, or nobody saw that: another one finds an empty disk, and a head
        node that serves it."""
        from pipeline.cluster import changing

        self.runner.add(nodes)
        for node in nodes:
            changing.forget(self.shell(), node)

    def deploy(self) -> None:
        """All nodes are up: they are told what has changed since they were installed, and the OPKGs that they are."""
        from pipeline.cluster import changing

        if self._notes.has("renamed"):
            changing.tell_nodes(self.shell(), self._notes, patience=self.patience())
        self._opkg_phases("all up")
        self._notes.add("deployed")

    def _change(self, change: Change) -> None:
        """Bring nodes and names up to today's recipe, but for installing.

        Killed in between, it is done once more by the next run: what the cluster is described as is written last.
        """
        from pipeline.cluster import changing

        self.runner.take_away(change.removed)
        self.runner.add(change.added)
        archive = self.identity().archive(self.composition.names(), self.composition.settings())
        changing.tell_head(self.shell(), archive, self._notes, patience=self.patience())
        self._opkg_phases("head up")
        for node in (*change.added, *change.removed):  # the head node knows all of them as they are
            self._notes.remove(f"begun/{node}")
        described.write(self.run_dir, self.cluster, self.host)

    def require_consent(self, found: Course) -> None:
        """Raise ClusterError where memory that somebody saved would be lost, and nobody agrees to that."""
        if not found.lost:
            return
        name, lost = self.cluster.name, course.few(found.lost)
        if found.anew:
            is_done, would_be = "is made anew", "would be made anew"
        elif "install" in found.acts.values():
            is_done, would_be = "installs nodes anew", "would install nodes anew"
        else:
            is_done, would_be = "goes on with other definitions", "would go on with other definitions"
        consent.require(
            f"{name} {is_done}: {found.reason}.  The saved memory of {lost} is lost then: go on?",
            ClusterError(
                f"{name} {would_be}, and the saved memory of {lost} would be lost: {found.reason}",
                hint=f"doit vm restore {name} goes on with it as it was; --yes gives it up",
            ),
        )

    def _opkg_phases(self, when: When) -> None:
        """Run the OPKGs' scripts for what has its place now on the head node; also of OPKGs that came while it ran."""
        from pipeline.cluster.opkgphase import OpkgPhases

        present = {path for path, _ in self.plan.steps[self.made.stacks["head"].opkgs].files}
        came = [one for one in self.added.all().values() if one.state == "whole"]
        cluster = dataclasses.replace(self.cluster, opkgs=(*self.cluster.opkgs, *(one.name for one in came)))
        present.update(*(one.files() for one in came))
        phases = OpkgPhases(cluster, present, self.run_dir, self.runner.record)
        phases.run(when, self.shell(), patience=self.patience())

    def patience(self) -> float:
        """How many times as long what is done with all nodes may take as with a few."""
        return pace.patience(len(self.cluster.nodes), "verify", self.capacity())

    def _stop_elsewhere(self) -> None:
        """End it where it was booted, if that is not where its recipe has it by now."""
        try:
            booted = described.read(self.run_dir)
        except ClusterError:  # another version's: the recipe is all there is to go by
            return
        if booted is not None and booted.host != self.host:
            kinds.place(booted.host, booted.cluster, self.run_dir, self.engine.artifacts).stop()
