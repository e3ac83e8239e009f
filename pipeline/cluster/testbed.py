"""The machine of a testbed: what it is made of, for the runner of machines in a private place; and starting it."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline import consent, events, naming
from pipeline.cluster.runner import Runner
from pipeline.description import Cluster, Host, Interface, Machine, Network
from pipeline.drivers import domain, libvirt_xml
from pipeline.drivers.domain import Kernel, Purpose
from pipeline.drivers.site import RUN
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.hosts import given, kinds
from pipeline.hosts.testbed import ADDRESS, CIDR, HOST_ADDRESS, MACHINE, NETWORK, Testbed
from pipeline.identity import Identity
from pipeline.shell import ClusterShell
from pipeline.virt import disks, power
from pipeline.virt.connection import connect
from pipeline.virt.disks import Given

_MAC = "00:16:3e:7f:00:00"
#: What QEMU loads.
_LOADED = ("xen", "kernel", "initrd.img")
#: What dom0 keeps for itself; all else is for machines of clusters.
_DOM0_MIB = 768
#: Where a testbed itself runs.
_HERE = Host("local", "qemu", "private")


class TestbedParts:
    """What the machine of a testbed is made of: the artifact `dom0:DISTRO`, and what its recipe gives it."""

    def __init__(self, host: Host, described: Cluster, engine: Engine) -> None:
        self.netboot = naming.netboot(described.architecture)
        self._host = host
        self._described = described
        self._engine = engine
        self._task = naming.dom0(host.distro)

    def tasks(self) -> Iterable[str]:
        return [self._task, self.netboot]

    def marks(self, machine: str) -> Mapping[str, str]:
        entry = self._engine.keys.entry(self._task)
        size = f"{self._host.memory_mib} MiB, {self._host.cpus} cpus"
        return {"size": size} if entry is None else {"dom0": entry.digest, "size": size}

    def definition(self, machine: str, purpose: Purpose) -> str:
        # QEMU's multiboot loader: the hypervisor is the kernel, dom0's kernel and ramdisk are its modules
        kernel = Kernel(
            image=f"{RUN}/disks/xen",
            ramdisk=f"{RUN}/disks/kernel console=hvc0 root=/dev/vda rw mitigations=off net.ifnames=0 nokaslr quiet,"
            f"{RUN}/disks/initrd.img",
            arguments=f"dom0_mem={_DOM0_MIB}M,max:{_DOM0_MIB}M dom0_max_vcpus={self._host.cpus} console=com1 "
            "com1=115200,8n1 spec-ctrl=no xpti=0 no-bootscrub",
        )
        name = self._described.name
        return libvirt_xml.render(
            domain.Domain(
                name=domain.name_of(name, MACHINE),
                uuid=domain.uuid_of(name, MACHINE),
                cluster=name,
                node=MACHINE,
                role="head",
                architecture=self._described.architecture,
                memory_mib=self._host.memory_mib,
                vcpus=self._host.cpus,
                disks=(
                    domain.Disk(f"{RUN}/disks/{MACHINE}.qcow2", "qcow2", "vda", serial="root"),
                    domain.Disk(f"{RUN}/disks/identity.img", "raw", "vdb", serial="identity", readonly=True),
                ),
                interfaces=(domain.Interface(NETWORK, _MAC),),
                console=f"{RUN}/console/{MACHINE}.log",
                report=f"{RUN}/report/{MACHINE}",
                kernel=kernel,
                nested=True,
            )
        )

    def disks(self, machines: Sequence[Machine], folder: Path) -> list[Given]:
        """An overlay over the artifact."""
        entry = self._engine.entry(self._task)
        base, overlay = entry.path / "disk.img", folder / f"{MACHINE}.qcow2"
        disks.overlay(base, overlay)
        return [Given(MACHINE, overlay, base, entry.digest, format="qcow2")]

    def given(self, folder: Path) -> list[Given]:
        """What is loaded, and its identity."""
        entry = self._engine.entry(self._task)
        for name in _LOADED:  # where artifacts lie there may be spaces and commas, which QEMU would take for its own
            disks.attach(entry.path / name, folder / name)
        file = folder / "identity.img"
        self.identity().write_archive(file)
        return [Given("identity", file, file, "", readonly=True)]

    def kernels(self) -> Mapping[str, Path]:
        return {}

    def identity(self) -> Identity:
        return Identity.of(self._engine.own, self._described)


class TestbedHost:
    """A VM container that is made here: is it up, and start it."""

    def __init__(self, host: Host, engine: Engine, architecture: str = "amd64") -> None:
        self.testbed = Testbed(host, engine.own / "run", engine.store.root)
        self._task = naming.host(host.name)
        machine = Machine(
            MACHINE, "head", 0, host.memory_mib, host.cpus, 0, (), (Interface("eth0", NETWORK, _MAC, ADDRESS, 24),)
        )
        self._described = Cluster(
            self.testbed.name,
            host.distro,
            architecture,
            "xen-oscar.internal",
            _HERE.name,
            (Network(NETWORK, CIDR, HOST_ADDRESS),),
            machine,
            (),
            (),
            host.guest,
        )
        self.parts = TestbedParts(host, self._described, engine)
        self.runner = Runner(
            self._described,
            _HERE,
            self.testbed.run_dir,
            engine,
            lambda: self.parts,
            lambda phase: self._task,
            wanted=f"doit {self._task}",
        )

    def is_ready(self) -> bool:
        """Whether it runs, is made of today's artifact, and has been ready."""
        reason = self.runner.survey.course("boot").reason if self.runner.is_built() else "it is not built"
        if reason:
            events.reason(self._task, reason)
        return not reason

    def start(self) -> None:
        """Start it anew; returns when its libvirt takes connections.  Clusters on an older one end with it."""
        self.runner.require_built()
        with self.runner.alone():
            self._require_consent()
            with self.runner.begun():
                self._write_ssh()
        events.note(f"{self.testbed.name}: Xen runs, libvirt at {self.testbed.uri}")

    def _require_consent(self) -> None:
        """Raise ClusterError where memory that somebody saved there would be lost, and nobody agrees to that."""
        lost = self._saved()
        if lost:
            name, named = self.testbed.name, ", ".join(lost)
            consent.require(
                f"{name} is started anew.  The saved memory of {named} is lost then: go on?",
                ClusterError(
                    f"{name} would be started anew, and the saved memory of {named} would be lost",
                    hint="doit vm restore CLUSTER goes on with its machines as they were; --yes gives that up",
                ),
            )

    def _saved(self) -> list[str]:
        """Machines of clusters that lie there as memory; none where it does not answer, for then there are none."""
        if self.testbed.alive() is None:
            return []
        with contextlib.suppress(ClusterError), connect(self.testbed.uri) as connection:
            return [machine.name for machine in power.machines(connection) if machine.state == "saved"]
        return []

    def _write_ssh(self) -> None:
        """The program that URIs name."""
        proxy = self.runner.home().ssh_proxy_command
        shell = ClusterShell(self._described, self.parts.identity(), proxy, self.testbed.run_dir / "ssh.log")
        self.testbed.ssh.write_text(f'#!/bin/sh\nexec {shlex.join(shell.command)} "$@"\n')
        self.testbed.ssh.chmod(0o700)


class GivenHost:
    """A VM container that is there, on or off, whatever we do."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def is_ready(self) -> bool:
        return False  # asked each time: it may have been switched off

    def start(self) -> None:
        """Raise ClusterError unless its libvirt and its engine answer."""
        events.note(f"{self._host.name}: {given.ask(self._host)}")


def host_of(host: Host, engine: Engine) -> TestbedHost | GivenHost:
    """A VM container as a task has it."""
    return TestbedHost(host, engine) if kinds.of(host.connection).is_made else GivenHost(host)
