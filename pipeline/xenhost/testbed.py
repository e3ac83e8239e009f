"""The testbed: an emulated machine that runs Xen, so that clusters run on a real hypervisor without its hardware.

It lives like a cluster of one machine, in namespaces and under a libvirt of its own, boots from a throwaway overlay
over the artifact `dom0:DISTRO`, and is reached by ssh like any other Xen host.  Disks of clusters are handed to it
while it runs, as they are, without copying.
"""

from __future__ import annotations

import contextlib
import hashlib
import shlex
import shutil
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline import consent, events, naming, sandbox
from pipeline.description import Cluster, Host, Interface, Machine, Network
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.exclusive import exclusive
from pipeline.guests import flavours
from pipeline.hypervisor import accelerator, disks, domain, libvirt_xml, namespace
from pipeline.hypervisor import lifecycle as machines
from pipeline.hypervisor.connection import connect, plain_words
from pipeline.hypervisor.namespace import Namespace
from pipeline.hypervisor.watch import Progress, watch
from pipeline.identity import Identity
from pipeline.locks import Busy, locked
from pipeline.run import cleaning_up
from pipeline.ssh import ClusterShell

#: Five times what was measured on two processors that other machines used as well.
_BOOT = 350

_DOM0 = "dom0"
_NETWORK = "public"
#: Of the network between the testbed and this machine, which nobody else sees; dom0's files say the same.
_ADDRESS, _HOST_ADDRESS, _CIDR = "10.76.0.1", "10.76.0.254", "10.76.0.0/24"
_MAC = "00:16:3e:7f:00:00"
#: What QEMU loads.
_LOADED = ("xen", "kernel", "initrd.img")
#: Seconds that handing a disk to it may take others.
_HANDED = 60
#: What dom0 keeps for itself; all else is for machines of clusters.
_DOM0_MIB = 768


class Testbed:
    """One testbed, whether it runs or not."""

    def __init__(self, host: Host, engine: Engine, architecture: str = "amd64") -> None:
        self.host = host
        self.engine = engine
        self.name = f"xenhost-{host.name}"
        self.run_dir = engine.own / "run" / self.name
        self._machine = Machine(_DOM0, "head", 0, host.memory_mib, host.cpus, 0, (),
                                (Interface("eth0", _NETWORK, _MAC, _ADDRESS, 24),))
        self._described = Cluster(self.name, host.distro, architecture, "xen-oscar.internal", "",
                                  (Network(_NETWORK, _CIDR, _HOST_ADDRESS),), self._machine, (), (), host.guest)

    @property
    def uri(self) -> str:
        """Its libvirt, as any program on this machine reaches it while the testbed runs."""
        command = urllib.parse.quote(str(self.run_dir / "ssh"))
        return f"xen+ssh://root@{_ADDRESS}/system?command={command}&no_tty=1"

    def alive(self) -> Namespace | None:
        """Its namespaces, if it runs."""
        return namespace.alive(self.run_dir)

    def is_ready(self) -> bool:
        """Whether it runs, is made of today's artifact, and has been ready."""
        home, marks = self.alive(), self._marks()
        task = naming.xenhost(self.host.name)
        if home is None or marks is None:
            events.reason(task, "it does not run")
            return False
        try:
            with connect(home.libvirt_uri) as connection:
                running = machines.machines(connection)
        except ClusterError as error:
            events.reason(task, error.message)
            return False
        if not running or running[0].state != "running":
            events.reason(task, "its machine has ended")
            return False
        if running[0].metadata.artifacts != marks:
            events.reason(task, "it is made of older artifacts")
            return False
        return True

    def start(self) -> None:
        """Start it anew; returns when its libvirt takes connections.  Clusters on an older one end with it."""
        marks = self._marks()
        if marks is None:
            raise ClusterError(f"{self.name} is not built", hint=f"doit xenhost:{self.host.name}")
        with exclusive(self.run_dir.parent / f".{self.name}.lock", f"another run is starting {self.name}",
                       hint="wait for it"):
            self._require_consent()
            self.stop()
            self._prepare()
            kernel = self.engine.entry(naming.netboot(self._described.architecture)).path / "kernel"
            found = accelerator.find(kernel, cache=self.engine.artifacts / "cache")
            try:
                with namespace.lease(self.run_dir), self.engine.holder([naming.dom0(self.host.distro)]) as holder:
                    home = namespace.start(self.run_dir, self._described.networks,
                                           cache=self.engine.artifacts / "cache", store=holder.root,
                                           keep=[holder.fileno()])
                    self._write_ssh(home)
                    self._boot(home, libvirt_xml.for_start(libvirt_xml.render(self._domain()), found.accelerator,
                                                           marks))
            except BaseException:
                with cleaning_up():
                    self.stop()
                raise
        events.note(f"{self.name}: Xen runs, libvirt at {self.uri}")

    def stop(self) -> bool:
        """End it, and with it everything that runs there."""
        return namespace.stop(self.run_dir)

    def attach(self, cluster: str, name: str, path: Path, format: str, *, readonly: bool) -> str:
        """Hand a disk of a cluster to dom0; returns its path there.  Handing it in again is no mistake."""
        serial = _serial(cluster) + _serial(name)
        home = self.alive()
        if home is None:
            raise ClusterError(f"{self.name} does not run", hint=f"doit xenhost:{self.host.name}")
        with self._handing(), connect(home.libvirt_uri) as connection:
            dom0 = connection.domain(domain.name_of(self.name, _DOM0))
            with plain_words(f"{self.name}: {path.name} cannot be handed to it"):
                present = _serials(dom0.XMLDesc())
                if serial not in present:
                    taken = set(present.values())
                    target = next(name for name in _targets() if name not in taken)
                    dom0.attachDevice(_disk(self._shown(path, serial), format, target, serial, readonly))
        return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial}"

    def detach(self, cluster: str, name: str = "") -> None:
        """Take the disks of a cluster away again, or the one of that name; those that are there."""
        home = self.alive()
        if home is None:
            return
        with self._handing(), connect(home.libvirt_uri) as connection:
            dom0 = connection.domain(domain.name_of(self.name, _DOM0))
            with plain_words(f"{self.name}: a disk cannot be taken away"):
                for element in ET.fromstring(dom0.XMLDesc()).iterfind("devices/disk"):
                    serial = element.findtext("serial", "")
                    if serial.startswith(_serial(cluster) + (_serial(name) if name else "")):
                        dom0.detachDevice(ET.tostring(element, encoding="unicode"))
                        (self.run_dir / "disks" / serial).unlink(missing_ok=True)

    def _shown(self, path: Path, serial: str) -> str:
        """Where the testbed's QEMU finds a disk: it sees the store, and of run folders only its own."""
        path = path.resolve(strict=True)
        if path.is_relative_to(self.engine.store.root):
            return str(path)
        here = self.run_dir / "disks" / serial
        here.unlink(missing_ok=True)
        here.hardlink_to(path)
        sandbox.give(here)
        return f"{domain.RUN}/disks/{serial}"

    @contextlib.contextmanager
    def _handing(self) -> Iterator[None]:
        """Within the block nobody else hands disks to it or takes them away: whoever does looks for a free name first.
        """
        try:
            with locked(self.run_dir / "disks.lock", within=_HANDED):
                yield
        except Busy:
            raise ClusterError(f"{self.name}: another run has been handing disks to it for {_HANDED} s",
                               hint=f"see what holds it up, or doit stop:{self.name}") from None

    # --- starting

    def _require_consent(self) -> None:
        """Raise ClusterError where memory that somebody saved there would be lost, and nobody agrees to that."""
        lost = self._saved()
        if lost:
            named = ", ".join(lost)
            consent.require(f"{self.name} is started anew.  The saved memory of {named} is lost then: go on?",
                            ClusterError(f"{self.name} would be started anew, and the saved memory of {named} would be "
                                         "lost", hint="doit vm restore CLUSTER goes on with its machines as they were; "
                                                      "--yes gives that up"))

    def _saved(self) -> list[str]:
        """Machines of clusters that lie there as memory; none where it does not answer, for then there are none."""
        if self.alive() is None:
            return []
        with contextlib.suppress(ClusterError), connect(self.uri) as connection:
            return [machine.name for machine in machines.machines(connection) if machine.state == "saved"]
        return []

    def _boot(self, home: Namespace, definition: str) -> None:
        def show(progress: Progress) -> None:
            events.phase(naming.xenhost(self.host.name), progress.machine, progress.step, progress.detail)

        fatal = flavours.of(self.host.guest).fatal
        with connect(home.libvirt_uri) as connection, watch(home, connection, show, fatal=fatal) as watching:
            watching.expect(_DOM0, "boot", {"READY"}, within=_BOOT)
            machines.start(connection, definition, report=self.run_dir / "report" / _DOM0)
            watching.wait()

    def _domain(self) -> domain.Domain:
        run = domain.RUN
        # QEMU's multiboot loader: the hypervisor is the kernel, dom0's kernel and ramdisk are its modules
        kernel = domain.Kernel(
            image=f"{run}/disks/xen",
            ramdisk=f"{run}/disks/kernel console=hvc0 root=/dev/vda rw mitigations=off net.ifnames=0 nokaslr quiet,"
                    f"{run}/disks/initrd.img",
            arguments=f"dom0_mem={_DOM0_MIB}M,max:{_DOM0_MIB}M dom0_max_vcpus={self.host.cpus} console=com1 "
                      "com1=115200,8n1 spec-ctrl=no xpti=0 no-bootscrub")
        return domain.Domain(
            name=domain.name_of(self.name, _DOM0), uuid=domain.uuid_of(self.name, _DOM0), cluster=self.name,
            node=_DOM0, role="head", architecture=self._described.architecture, memory_mib=self.host.memory_mib,
            vcpus=self.host.cpus,
            disks=(domain.Disk(f"{run}/disks/{_DOM0}.qcow2", "qcow2", "vda", serial="root"),
                   domain.Disk(f"{run}/disks/identity.img", "raw", "vdb", serial="identity", readonly=True)),
            interfaces=(domain.Interface(_NETWORK, _MAC),), console=f"{run}/console/{_DOM0}.log",
            report=f"{run}/report/{_DOM0}", kernel=kernel, nested=True)

    def _marks(self) -> tuple[tuple[str, str], ...] | None:
        entry = self.engine.keys.entry(naming.dom0(self.host.distro))
        return None if entry is None else (
            ("dom0", entry.digest), ("size", f"{self.host.memory_mib} MiB, {self.host.cpus} cpus"))

    def _prepare(self) -> None:
        """A fresh run folder: an overlay over the artifact, what is loaded, the identity disk, the way in by ssh."""
        entry = self.engine.entry(naming.dom0(self.host.distro))
        shutil.rmtree(self.run_dir, ignore_errors=True)
        folder = self.run_dir / "disks"
        folder.mkdir(parents=True)
        self.run_dir.chmod(0o700)
        disks.overlay(entry.path / "disk.img", folder / f"{_DOM0}.qcow2")
        for name in _LOADED:  # where artifacts lie there may be spaces and commas, which QEMU would take for its own
            disks.attach(entry.path / name, folder / name)
        self._identity().write_archive(folder / "identity.img")

    def _identity(self) -> Identity:
        return Identity(self.engine.own / "identity" / self.name, self._described)

    def _write_ssh(self, home: Namespace) -> None:
        """The program that URIs name: ssh with the keys of this testbed and through its namespace."""
        shell = ClusterShell(self._described, self._identity(), home.ssh_proxy_command, self.run_dir / "ssh.log")
        script = self.run_dir / "ssh"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(shell.command)} "$@"\n')
        script.chmod(0o700)


def _serial(name: str) -> str:
    """Half of a disk's serial number, of which QEMU's SCSI disks have room for 36 characters and udev for fewer."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _serials(definition: str) -> Mapping[str, str]:
    """Serial -> target of the disks that a running machine has."""
    return {element.findtext("serial", ""): target.attrib["dev"]
            for element in ET.fromstring(definition).iterfind("devices/disk")
            if (target := element.find("target")) is not None}


def _targets() -> Iterator[str]:
    """Names for disks on the SCSI controller; dom0 gives its own."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield from (f"sd{letter}" for letter in letters)
    yield from (f"sd{first}{second}" for first in letters for second in letters)


def _disk(file: str, format: str, target: str, serial: str, readonly: bool) -> str:
    element = ET.Element("disk", type="file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=format, cache="unsafe", discard="unmap")
    ET.SubElement(element, "source", file=file)
    ET.SubElement(element, "target", dev=target, bus="scsi")
    if readonly:
        ET.SubElement(element, "readonly")
    ET.SubElement(element, "serial").text = serial
    return ET.tostring(element, encoding="unicode")
