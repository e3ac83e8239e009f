"""The testbed: an emulated machine that runs Xen, so that clusters run on a real hypervisor without its hardware.

It lives like a cluster of one machine in a private place, and is reached by ssh like any other host.  Disks of clusters
are handed to it while it runs, as they are, without copying.  How it is started stands in `cluster/testbed.py`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import select
import shlex
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import foreign, naming, sandbox
from pipeline.description import Cluster, Host, Machine
from pipeline.drivers import domain, site
from pipeline.errors import ClusterError
from pipeline.hosts import datadisks, namespace
from pipeline.hosts.given import COPY, GivenPlace
from pipeline.hosts.home import GivenHome
from pipeline.hosts.namespace import Namespace
from pipeline.hosts.script import Script
from pipeline.locks import Busy, locked
from pipeline.virt import logs, power
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import connect, plain_words
from pipeline.virt.disks import Given
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity

#: Its one machine, and the network between it and this machine, which nobody else sees; dom0's files say the same.
MACHINE, NETWORK = "dom0", "public"
ADDRESS, HOST_ADDRESS, CIDR = "10.76.0.1", "10.76.0.254", "10.76.0.0/24"
#: Seconds that handing a disk to it may take others, and that its end takes at most.
_HANDED, _ENDING = 60, 10


class Testbed:
    """One testbed as its clusters use it; `run` is the folder of all run folders, `store` that of artifacts."""

    def __init__(self, host: Host, run: Path, store: Path) -> None:
        self.host = host
        self.name = naming.testbed(host.name)
        self.run_dir = run / self.name
        self._store = store

    @property
    def ssh(self) -> Path:
        """The program that its URI names: ssh with the keys of this testbed and through its namespace."""
        return self.run_dir / "ssh"

    @property
    def uri(self) -> str:
        """Its libvirt, as any program on this machine reaches it while the testbed runs."""
        return f"xen+ssh://root@{ADDRESS}/system?command={urllib.parse.quote(str(self.ssh))}&no_tty=1"

    def alive(self) -> Namespace | None:
        """Its namespaces, if it runs."""
        return namespace.alive(self.run_dir)

    def required(self) -> Namespace:
        """Its namespaces; raises ClusterError where it does not run."""
        home = self.alive()
        if home is None:
            raise ClusterError(f"{self.name} does not run", hint=f"doit {naming.host(self.host.name)}")
        return home

    def attach(
        self, cluster: str, name: str, path: Path, format: str, *, readonly: bool = False, lasts: bool = False
    ) -> str:
        """Hand a disk of a cluster to dom0; returns its path there.  Handing it in again is no mistake.

        `name` is that of a machine for its own disk, MACHINE.DISK for another one of it, or what a head node is given.
        """
        serial = _serial(cluster, *name.split("."))
        with self._handing(), connect(self.required().libvirt_uri) as connection:
            dom0 = connection.domain(domain.name_of(self.name, MACHINE))
            with plain_words(f"{self.name}: {path.name} cannot be handed to it"):
                present = _serials(dom0.XMLDesc())
                if serial not in present:
                    taken = set(present.values())
                    target = next(name for name in _targets() if name not in taken)
                    dom0.attachDevice(_disk(self._shown(path, serial), format, target, serial, readonly, lasts))
        return f"/dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_{serial}"

    def detach(self, cluster: str, *name: str) -> None:
        """Take the disks of a cluster away again, or those of that machine, or that one; those that are there."""
        home = self.alive()
        if home is None:
            return
        with self._handing(), connect(home.libvirt_uri) as connection:
            dom0 = connection.domain(domain.name_of(self.name, MACHINE))
            with plain_words(f"{self.name}: a disk cannot be taken away"):
                for element in ET.fromstring(dom0.XMLDesc()).iterfind("devices/disk"):
                    serial = element.findtext("serial", "")
                    if serial.startswith(_serial(cluster, *name, whole=False)):
                        dom0.detachDevice(ET.tostring(element, encoding="unicode"))
                        (self.run_dir / "disks" / serial).unlink(missing_ok=True)

    def _shown(self, path: Path, serial: str) -> str:
        """Where the testbed's QEMU finds a disk: it sees the store, and of run folders only its own."""
        path = path.resolve(strict=True)
        if path.is_relative_to(self._store):
            return str(path)
        here = self.run_dir / "disks" / serial
        here.unlink(missing_ok=True)
        here.hardlink_to(path)
        sandbox.give(here)
        return f"{site.RUN}/disks/{serial}"

    @contextlib.contextmanager
    def _handing(self) -> Iterator[None]:
        """Within the block nobody else hands disks to it or takes any away: who does looks for a free name first."""
        try:
            with locked(self.run_dir / "disks.lock", within=_HANDED):
                yield
        except Busy:
            raise ClusterError(
                f"{self.name}: another run has been handing disks to it for {_HANDED} s",
                hint=f"see what holds it up, or doit stop:{self.name}",
            ) from None


@dataclass(frozen=True)
class TestbedHome(GivenHome):
    """A cluster that lives on a testbed, whose namespaces these are."""

    testbed: Namespace

    @property
    def disks_are_here(self) -> bool:
        return True

    def pidfd(self) -> int:
        return self.testbed.pidfd()

    def ends(self, *, within: float) -> bool:
        """Whether its testbed is being ended meanwhile, which takes a moment; nothing is left of the cluster then."""
        try:
            end = self.testbed.pidfd()
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([end], [], [], within)[0])
        finally:
            os.close(end)

    def lost(self) -> ClusterError:
        """The error for a testbed that has ended under the cluster, with what it said last."""
        console = self.testbed.run_dir / "console" / f"{MACHINE}.log"
        said = logs.last(console, 4096)[0].decode("utf-8", "replace") if console.exists() else ""
        how = "no longer answers" if namespace.alive(self.testbed.run_dir) == self.testbed else "has ended"
        paused = self._why_paused() if how == "no longer answers" else ""
        return ClusterError(
            f"{self.testbed.cluster}, on which {self.cluster} runs, {f'is paused: {paused}' if paused else how}",
            log=console,
            tail=foreign.last_lines(said, 12),
            hint=f"doit cluster:{self.cluster} starts both anew",
        )

    def _why_paused(self) -> str:
        """A testbed that finds no space is paused, and with it all that runs on it."""
        with contextlib.suppress(ClusterError), connect(self.testbed.libvirt_uri, within=10) as connection:
            return next((machine.why for machine in power.machines(connection)), "")
        return ""


def _identity(file: Path) -> tuple[int, int, int]:
    """What differs where a file was exchanged, or has grown."""
    found = file.stat()
    return found.st_dev, found.st_ino, found.st_size


class TestbedPlace(GivenPlace):
    """The place of one cluster on a testbed."""

    def __init__(self, testbed: Testbed, cluster: Cluster, run_dir: Path) -> None:
        super().__init__(testbed.host, cluster, run_dir, testbed.uri)
        self._testbed = testbed

    def provide(self, home: Home, machine: Machine) -> None:
        """They are made here, and handed to it; one that is another file now, or has grown, is handed anew."""
        lines = ["set -e"]
        before = {file: _identity(file) for file in (self._run_dir / "disks").glob(f"{machine.name}.*.img")}
        files = datadisks.provide(self._run_dir, self._cluster.name, machine)
        for disk in machine.disks:
            name, file = f"{machine.name}.{disk.name}", files[disk.name]
            if before.get(file) != _identity(file):
                self._testbed.detach(self._cluster.name, machine.name, disk.name)
            path = self._testbed.attach(self._cluster.name, name, file, "raw", lasts=disk.kind == "kept")
            lines += self._linked(name, path)
        if files:
            self._access.run("\n".join(lines))

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        """Take the disks and saved memory of machines that have ended; what lies below them is handed back."""
        for name in machines:
            self._testbed.detach(self._cluster.name, name)
            datadisks.remove(self._run_dir, name)
        super().remove(home, machines)

    def kept(self) -> Sequence[str]:
        return datadisks.kept(self._run_dir, self._cluster.name)

    def discard(self, disks: Sequence[str]) -> None:
        datadisks.discard(self._run_dir, self._cluster.name, disks)

    def accelerator(self, here: Callable[[], Found]) -> Found:
        return here()

    def free_mib(self) -> int:
        self._testbed.required()
        return super().free_mib()

    def capacity(self, found: Found) -> Capacity:
        """Its processors are this machine's."""
        return Capacity(self._testbed.host.cpus, found.accelerator, self._cluster.head.cpus)

    def _identity(self) -> str:
        alive = self._testbed.required()
        return f"{alive.pid} {alive.start}"

    def _home(self, script: Script) -> GivenHome:
        return TestbedHome(self._cluster.name, self._run_dir, self._access, script, self._testbed.required())

    def _clear(self, home: GivenHome) -> None:
        assert isinstance(home, TestbedHome)
        try:
            super()._clear(home)
            self._testbed.detach(self._cluster.name)
        except ClusterError:
            if not home.ends(within=_ENDING):
                raise

    def _take(self, disks: Sequence[Given]) -> None:
        """Hand it what has something on it, or is no device of its own."""
        lines = ["set -e"]
        for disk in disks:
            if disk.device and disk.is_blank:
                continue
            path = self._testbed.attach(self._cluster.name, disk.name, disk.file, disk.format, readonly=disk.readonly)
            lines += self._linked(disk.name, path)
            if disk.device:
                filling = self._script("fill", disk.device, f"{self._script.folder}/disks/{disk.name}")
                lines.append(f"sh -c {shlex.quote(filling)}")
        self._access.run("\n".join(lines), within=COPY)

    def _linked(self, name: str, path: str) -> list[str]:
        """Lines that wait for a disk that has been handed to it, and show it under its name."""
        return [f"udevadm wait --timeout=60 {path}", f"ln -sfn {path} {self._script.folder}/disks/{name}"]


def place(host: Host, cluster: Cluster, run_dir: Path, artifacts: Path) -> TestbedPlace:
    """That of one cluster; `artifacts` is the folder of all artifacts."""
    return TestbedPlace(Testbed(host, run_dir.parent, artifacts / "store"), cluster, run_dir)


def _serial(cluster: str, machine: str = "", disk: str = "", *, whole: bool = True) -> str:
    """A disk's serial number, or the part of it that all of a machine or cluster have in common: 6, 6 and 4 characters.

    udev shows no more of that of a SCSI disk than 20 characters, all of them small.
    """
    parts = [(cluster, 6), (machine, 6), (disk, 4)]
    return "".join(
        base64.b32encode(hashlib.sha256(name.encode()).digest())[:size].decode().lower()
        for name, size in parts
        if name or whole
    )


def _serials(definition: str) -> Mapping[str, str]:
    """Serial -> target of the disks that a running machine has."""
    return {
        element.findtext("serial", ""): target.attrib["dev"]
        for element in ET.fromstring(definition).iterfind("devices/disk")
        if (target := element.find("target")) is not None
    }


def _targets() -> Iterator[str]:
    """Names for disks on the SCSI controller; dom0 gives its own."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield from (f"sd{letter}" for letter in letters)
    yield from (f"sd{first}{second}" for first in letters for second in letters)


def _disk(file: str, format: str, target: str, serial: str, readonly: bool, lasts: bool) -> str:
    element = ET.Element("disk", type="file", device="disk")
    cache = "writeback" if lasts else "unsafe"
    ET.SubElement(element, "driver", name="qemu", type=format, cache=cache, discard="unmap")
    ET.SubElement(element, "source", file=file)
    ET.SubElement(element, "target", dev=target, bus="scsi")
    if readonly:
        ET.SubElement(element, "readonly")
    ET.SubElement(element, "serial").text = serial
    return ET.tostring(element, encoding="unicode")
