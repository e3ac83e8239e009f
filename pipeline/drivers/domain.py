"""The domain model: one virtual machine as plain data, before any hypervisor's notation.

Drivers make it from the cluster's description; renderings (`libvirt_xml`) turn it into what a hypervisor reads.  So
what a machine is made of is decided once, and a second rendering can be held against the first.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from pipeline.description import Devices, Hypervisor, Machine, Role, Virtualization

Accelerator = Literal["tcg", "kvm"]
#: What a machine is started for; each driver answers how it boots then.  A head node is only ever run.
Purpose = Literal["run", "install"]

_UUIDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:xen-oscar:domain:1")


@dataclass(frozen=True)
class Disk:
    """A block device.  `boot` is its place in the boot order, 0 = not booted from; what is written to one that `lasts`
    has to survive a crash of the host.  `size_mib` is known of those for data alone."""

    path: str
    format: Literal["qcow2", "raw"]
    target: str
    serial: str
    readonly: bool = False
    boot: int = 0
    lasts: bool = False
    size_mib: int = 0


@dataclass(frozen=True)
class Interface:
    """A network card on a bridge.  `boot` is its place in the boot order, 0 = no network boot."""

    bridge: str
    mac: str
    boot: int = 0


@dataclass(frozen=True)
class Kernel:
    """A kernel that is loaded from outside instead of from the machine's disk or network."""

    image: str
    ramdisk: str
    arguments: str


@dataclass(frozen=True)
class Domain:
    """One virtual machine.

    `bootloader` takes the kernel from the machine's disk while the domain is made; with neither it nor `kernel`, the
    firmware boots the disk.  `pci` are devices of the VM container (DDDD:BB:SS.F) that only this domain has.

    `console` is where all that it writes to its serial console is kept, `report` where the lines of its report channel
    arrive.  `nested`: it runs a hypervisor of its own, to which disks are handed while it runs.  `devices` says what
    its disks, cards and report channel are.  `accelerator` and `artifacts` (what it was made from: role and digest) are
    known when it starts.
    """

    name: str
    uuid: str
    cluster: str
    node: str
    role: Role
    architecture: str
    memory_mib: int
    vcpus: int
    disks: tuple[Disk, ...]
    interfaces: tuple[Interface, ...]
    console: str
    report: str
    kernel: Kernel | None = None
    nested: bool = False
    devices: Devices = "virtio"
    accelerator: Accelerator = "tcg"
    artifacts: tuple[tuple[str, str], ...] = ()
    hypervisor: Hypervisor = "qemu"
    virtualization: Virtualization = "hvm"
    bootloader: Literal["", "pygrub"] = ""
    pci: tuple[str, ...] = ()
    on_reboot: Literal["restart", "destroy"] = "restart"


def name_of(cluster: str, node: str) -> str:
    """The domain's name; it carries the cluster, because a hypervisor may hold more than one."""
    return f"{cluster}-{node}"


def uuid_of(cluster: str, node: str) -> str:
    """The domain's identifier, the same wherever and whenever it is defined."""
    return str(uuid.uuid5(_UUIDS, f"{cluster}/{node}"))


def of(cluster: str, architecture: str, machine: Machine) -> Domain:
    """What a machine of the cluster of that name is on any host; drivers add disks, cards and how it boots."""
    return Domain(
        name=name_of(cluster, machine.name),
        uuid=uuid_of(cluster, machine.name),
        cluster=cluster,
        node=machine.name,
        role=machine.role,
        architecture=architecture,
        memory_mib=machine.memory_mib,
        vcpus=machine.cpus,
        disks=(),
        interfaces=(),
        console="",
        report="",
    )
