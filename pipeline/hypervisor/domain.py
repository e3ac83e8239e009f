"""The domain model: one virtual machine as plain data, before any hypervisor's notation.

`of` makes it from the cluster's description; renderings (`libvirt_xml`) turn it into what a hypervisor reads.  So
what a machine is made of is decided once, and a second rendering can be held against the first.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Literal

from pipeline.description import Cluster, Machine, Role

Accelerator = Literal["tcg", "kvm"]

#: Where a machine finds the run folder of its cluster: the same path in every cluster's namespace.
RUN = "/run/xen-oscar"

_UUIDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:xen-oscar:domain:1")


@dataclass(frozen=True)
class Disk:
    """A block device.  `boot` is its place in the boot order, 0 = not booted from."""

    path: str
    format: Literal["qcow2", "raw"]
    target: str
    serial: str
    readonly: bool = False
    boot: int = 0


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

    `console` is where all that it writes to its serial console is kept, `report` where the lines of its report
    channel arrive.  `accelerator` and `artifacts` (what it was made from: role and digest) are known when it starts.
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
    accelerator: Accelerator = "tcg"
    artifacts: tuple[tuple[str, str], ...] = ()


def name_of(cluster: str, node: str) -> str:
    """The domain's name; it carries the cluster, because a hypervisor may hold more than one."""
    return f"{cluster}-{node}"


def of(cluster: Cluster, machine: Machine) -> Domain:
    """The domain that `machine` of `cluster` runs as.

    The head node boots from its disk only.  A compute node tries its disk and then the network, so an empty disk
    leads to the installer by itself.
    """
    disks = [Disk(f"{RUN}/disks/{machine.name}.qcow2", "qcow2", "vda", serial="root", boot=1)]
    if machine.role == "head":
        disks += [Disk(f"{RUN}/disks/sis.img", "raw", "vdb", serial="sis", readonly=True),
                  Disk(f"{RUN}/disks/identity.img", "raw", "vdc", serial="identity", readonly=True)]
    return Domain(
        name=name_of(cluster.name, machine.name),
        uuid=str(uuid.uuid5(_UUIDS, f"{cluster.name}/{machine.name}")),
        cluster=cluster.name,
        node=machine.name,
        role=machine.role,
        architecture=cluster.architecture,
        memory_mib=machine.memory_mib,
        vcpus=machine.cpus,
        disks=tuple(disks),
        interfaces=tuple(Interface(card.network, card.mac, boot=2 if machine.role == "compute" and number == 0 else 0)
                         for number, card in enumerate(machine.interfaces)),
        console=f"{RUN}/console/{machine.name}.log",
        report=f"{RUN}/report/{machine.name}",
    )
