"""The life of a running cluster: boot, install, start, stop; `verification` checks it meanwhile.

Running is separate from building: what runs are throwaway overlays over artifacts, in a run folder
`artifacts/run/CLUSTER/` that is made anew at each boot.  What lives is asked of libvirt and of the machines' own
report channels; each domain carries the digests of what it was made from, so a cluster whose artifacts have changed is
seen, ended and booted afresh.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import doit

from pipeline import events
from pipeline.checks.result import Verdict
from pipeline.cluster import containers, records
from pipeline.cluster.machines import Machines
from pipeline.description import Cluster
from pipeline.engine import Engine
from pipeline.errors import ClusterError, UserError
from pipeline.exclusive import exclusive
from pipeline.hypervisor import accelerator, disks, domain, libvirt_xml
from pipeline.hypervisor import lifecycle as machines
from pipeline.hypervisor.connection import Connection, connect
from pipeline.hypervisor.watch import Home, Progress, Signal, Watch, watch
from pipeline.identity import Identity
from pipeline.report.model import Phase
from pipeline.ssh import ClusterShell
from pipeline.step import Plan

#: Deadlines in seconds: three to five times what was measured for two nodes on two emulated processors.
_BOOT, _INSTALL, _START, _OPKG = 180, 600, 300, 120

#: Phases of OPKGs that run on the head node while the cluster comes up.
_HEAD_UP, _NODES_UP = "api-post-clientdef", "api-post-deploy"


def verdict_line(verdict: Verdict) -> str:
    """A verdict in a few words."""
    when = datetime.fromtimestamp(verdict.started).isoformat(" ", "seconds")
    return f"{verdict.outcome} {verdict.count('passed')} of {len(verdict.results)} checks on {when}"


class Lifecycle:
    """One cluster of a plan, whether it runs or not."""

    def __init__(self, plan: Plan, name: str, engine: Engine) -> None:
        self.plan = plan
        self.cluster: Cluster = plan.clusters[name]
        self.engine = engine
        self.run_dir = engine.own / "run" / name
        self.report_dir = engine.own / "reports" / name
        self._host = plan.hosts[self.cluster.host]
        self._container = containers.of(plan, self.cluster, self.run_dir, engine)
        self._step = plan.steps[f"verify:{name}"]

    # --- questions

    def has_reached(self, phase: str) -> bool:
        """Whether the cluster that runs is made of today's artifacts and has reached boot, install or start."""
        expected = self._digests()
        if expected is None:
            return False
        home = self._container.find()
        if home is None:
            self._because(phase, f"{self.cluster.name} does not run")
            return False
        try:
            with connect(home.libvirt_uri) as connection:
                running = {item.metadata.node: item for item in machines.machines(connection)
                           if item.metadata.cluster == self.cluster.name}
        except ClusterError as error:
            self._because(phase, error.message)
            return False
        for item in running.values():
            if dict(item.metadata.artifacts) != expected:
                changed = [role for role, digest in item.metadata.artifacts if expected.get(role) != digest]
                self._because(phase, f"made of older artifacts: {', '.join(changed) or 'others'}")
                return False
        for machine in self.cluster.machines[: 1 if phase == "boot" else None]:
            state = running[machine.name].state if machine.name in running else "not defined"
            said = self._said(machine.name)
            ready = state == "running" and "READY" in said
            # what was ready once has been installed, whatever became of it since (`doit vm`)
            installed = phase == "install" and ("READY" in said or (state == "off" and "DONE" in said))
            if not (ready or installed):
                self._because(phase, f"{machine.name} is {state}, and not yet through with it")
                return False
        return True

    def has_verdict(self) -> bool:
        """Whether these very artifacts have passed verification by today's checks, and nobody wants it anew."""
        if doit.get_var("fresh"):
            events.reason(self._step.task, "--fresh: verified anew")
            return False
        verdict = self.verdict()
        if verdict is None:
            events.reason(self._step.task, self.engine.keys.why(self._step))
            return False
        page = self.report_dir / "report.html"
        where = f"; report: {page}" if page.exists() else ""  # the verdict may be another checkout's
        events.note(f"{self.cluster.name}: {verdict_line(verdict)}{where}")
        events.outcome(self._step.task, "reused")
        return True

    def verdict(self) -> Verdict | None:
        """The verdict that is kept for today's artifacts, if there is one."""
        entry = self.engine.keys.entry(self._step.task)
        return Verdict.from_json(json.loads((entry.path / "verdict.json").read_bytes())) if entry else None

    def states(self) -> dict[str, str]:
        """What each machine does now, by name; empty where the cluster does not run."""
        home = self._container.find()
        if home is None:
            return {}
        with connect(home.libvirt_uri) as connection:
            return {item.metadata.node: item.state for item in machines.machines(connection)
                    if item.metadata.cluster == self.cluster.name}

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

    def console_text(self, machine: str) -> str:
        """What a machine last wrote to its console."""
        path = self.run_dir / "console" / f"{machine}.log"
        try:
            return path.read_text(errors="replace")
        except FileNotFoundError:
            raise UserError(f"{machine} has not run yet", hint=f"doit cluster:{self.cluster.name}") from None

    # --- phases

    def boot(self) -> None:
        """Start the head node from a throwaway overlay; returns when its provisioning services serve."""
        if self._digests() is None:
            raise ClusterError(f"{self.cluster.name} is not built", hint=f"doit cluster:{self.cluster.name}")
        with self._alone():
            self.stop()
            self.engine.collect(idle=containers.idle(self.engine.artifacts))
            given = self._prepare()
            started = time.time()
            kind = self._accelerator()
            events.note(f"{self.cluster.name}: {kind.why}")
            with self._held(), contextlib.ExitStack() as stack:
                holder = stack.enter_context(self.engine.holder(self.plan.artifacts_of(self.cluster.name).values()))
                home = self._container.start(given, self._kernels(), holder)
                connection = stack.enter_context(connect(home.libvirt_uri))
                self.record(Phase("", "networks and disks", started, time.time(), kind.why))
                with self._watch(home, connection, "boot") as watching:
                    watching.expect(self.cluster.head.name, "boot", {"READY"}, within=_BOOT)
                    self._start_machine(connection, self.cluster.head.name, "boot")
                    watching.wait()
                self._opkg_phase(_HEAD_UP)

    def install(self) -> None:
        """Install all compute nodes at once over the network; returns when each has said DONE and is off."""
        self._nodes("install", {"DONE", "STOPPED"}, _INSTALL)

    def start(self) -> None:
        """Start all compute nodes from their own disks; returns when each has said READY."""
        self._nodes("start", {"READY"}, _START)

    def stop(self) -> None:
        """End the cluster: machines, daemons, bridges, mounts.  Disks and consoles stay for a look."""
        self._container.stop()
        shutil.rmtree(self.run_dir / "saved", ignore_errors=True)  # no machine is left that this could be restored to

    def _nodes(self, phase: str, signals: set[Signal], within: float) -> None:
        with self._alone():
            home, states = self._home(), self.states()
            there = {name for name, state in states.items()
                     if phase == "start" and state == "running" and "READY" in self._said(name)}
            with self._held(), connect(home.libvirt_uri) as connection:
                wanted = [node.name for node in self.cluster.nodes if node.name not in there]
                self._container.check(home)
                machines.destroy(connection, [domain.name_of(self.cluster.name, name) for name in wanted
                                              if states.get(name, "off") != "off"])
                with self._watch(home, connection, phase) as watching:
                    for name in {self.cluster.head.name, *there}:
                        watching.guard(name)
                    for name in wanted:
                        watching.expect(name, phase, signals, within=within)
                        self._start_machine(connection, name, phase)
                    watching.wait()
                if phase == "start":
                    self._opkg_phase(_NODES_UP)

    def _start_machine(self, connection: Connection, name: str, phase: str) -> None:
        """Start one machine as its definition says, marked with what it is made of."""
        installing = phase == "install" and self._host.hypervisor == "xen"  # no firmware there to boot by network
        file = f"{name}-netboot.xml" if installing else f"{name}.xml"
        definition = (self.engine.entry(self._step_task("vmconfig")).path / file).read_text()
        marks = sorted((self._digests() or {}).items())
        machines.start(connection, libvirt_xml.for_start(definition, self._accelerator().accelerator, marks),
                       report=self.run_dir / "report" / name)

    def _accelerator(self) -> accelerator.Found:
        """What machines run with on this host; found out once by booting the installer's kernel."""
        kernel = self.engine.entry(f"netboot:{self.cluster.architecture}").path / "kernel"
        return accelerator.find(kernel, cache=self.engine.artifacts / "cache")

    @contextlib.contextmanager
    def _watch(self, home: Home, connection: Connection, phase: str) -> Iterator[Watch]:
        """Watch the machines, show their progress, and write down when what happened."""

        def show(progress: Progress) -> None:
            events.phase(f"{phase}:{self.cluster.name}", progress.machine, progress.step, progress.detail)

        names = [machine.name for machine in self.cluster.machines]
        with watch(home, connection, show) as watching, self._container.consoles(home, names):
            try:
                yield watching
            finally:
                self.record(*(Phase(span.machine, f"{span.phase}/{span.step}" if span.step else span.phase,
                                     span.start, span.end) for span in watching.timeline))

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
            self._container.stop()
            raise

    def _opkg_phase(self, phase: str) -> None:
        """Run a phase of the OPKGs on the head node, for those that have a script for it."""
        head = self.cluster.head.name
        present = {path for path, _ in self.plan.steps[f"opkgs:{self.cluster.name}/head"].files}
        wanted = [opkg for opkg in self.cluster.opkgs if f"opkgs/{opkg}/scripts/{phase}" in present]
        if not wanted:
            return
        shell = self.shell()
        with shell.connected():
            for opkg in wanted:
                started = time.time()
                home = f"/usr/lib/oscar/packages/{opkg}"
                status, out, errors = shell.run(
                    head, f"export OSCAR_PACKAGE_HOME={home}\nexec {home}/scripts/{phase}\n", timeout=_OPKG)
                self.record(Phase(head, f"{opkg} {phase}", started, time.time()))
                if status != 0:
                    raise ClusterError(f"{head}: {phase} of OPKG {opkg} ended with status {status}",
                                       tail="\n".join((out + errors).splitlines()[-12:]),
                                       hint=f"recipes/opkgs/{opkg}/scripts/{phase}")

    def forget_verdict(self) -> None:
        """Take the verdict out of the store."""
        self.engine.forget(self._step.task)

    # --- helpers

    def _step_task(self, role: str) -> str:
        return self.plan.artifacts_of(self.cluster.name)[role]

    def _digests(self) -> dict[str, str] | None:
        """The digests of what the cluster is made of: role -> digest; None where something is not built."""
        found = {}
        for role, task in self.plan.artifacts_of(self.cluster.name).items():
            entry = self.engine.keys.entry(task)
            if entry is None:
                return None
            found[role] = entry.digest
        return found

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
        given = []
        for machine in self.cluster.machines:
            entry = self.engine.entry(self._step_task(machine.name))
            base, overlay = entry.path / "disk.img", folder / f"{machine.name}.qcow2"
            disks.overlay(base, overlay)
            given.append(disks.Given(machine.name, overlay, base, entry.digest, device=machine.device))
        image = self.engine.entry(self._step_task("image"))
        disks.attach(image.path / "sis.img", folder / "sis.img")
        self.identity().write_archive(folder / "identity.img")
        given.append(disks.Given("sis", folder / "sis.img", image.path / "sis.img", image.digest, readonly=True))
        given.append(disks.Given("identity", folder / "identity.img", folder / "identity.img", "", readonly=True))
        return given

    def _kernels(self) -> dict[str, Path]:
        """What a hypervisor loads itself, by the name that definitions know; QEMU's machines boot by firmware."""
        if self._host.hypervisor != "xen":
            return {}
        netboot = self.engine.entry(f"netboot:{self.cluster.architecture}").path
        found = {"netboot-kernel": netboot / "kernel", "netboot-initrd.img": netboot / "initrd.img"}
        if "kernel" in self.plan.artifacts_of(self.cluster.name):
            own = self.engine.entry(self._step_task("kernel")).path
            found |= {"kernel": own / "kernel", "initrd.img": own / "initrd.img"}
        return found

    def timeline(self) -> list[Phase]:
        """What the machines did when, since they were booted."""
        return records.read(self.run_dir / "timeline.jsonl")

    def record(self, *phases: Phase) -> None:
        records.append(self.run_dir / "timeline.jsonl", *phases)

    def _said(self, machine: str) -> list[str]:
        """The words that a machine has said on its report channel since it started."""
        try:
            lines = (self.run_dir / "report" / machine).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []
        return [line.partition(" ")[0] for line in lines]

    def _because(self, phase: str, reason: str) -> None:
        events.reason(f"{phase}:{self.cluster.name}", reason)
