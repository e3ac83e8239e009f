"""The domain model: one virtual machine as plain data, before any hypervisor's notation.

`of` makes it from the cluster's description; renderings (`libvirt_xml`) turn it into what a hypervisor reads.  So
what a machine is made of is decided once, and a second rendering can be held against the first.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from dataclasses import dataclass
from typing import Literal

from pipeline.description import Hypervisor, Machine, Role, Virtualization

Accelerator = Literal["tcg", "kvm"]

#: Where a machine finds the run folder of its cluster: the same path in every cluster's namespace.
RUN = "/run/xen-oscar"
#: Where a Xen host keeps what belongs to its clusters; several may share it, so each has a folder of its own there.
XEN_FOLDER = "/var/lib/xen-oscar"

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

    `bootloader` takes the kernel from the machine's disk while the domain is made; with neither it nor `kernel`, the
    firmware boots the disk.  `pci` are devices of the VM container (DDDD:BB:SS.F) that only this domain has.

    `console` is where all that it writes to its serial console is kept, `report` where the lines of its report
    channel arrive.  `nested`: it runs a hypervisor of its own, to which disks are handed while it
    runs.  `accelerator` and `artifacts` (what it was made from: role and digest) are known when it starts.
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


def bridge_of(cluster: str, network: str) -> str:
    """The bridge of a cluster's network on a Xen host, where clusters share one space of names of 15 characters."""
    return f"xo{hashlib.sha256(cluster.encode()).hexdigest()[:5]}-{network}"[:15]


def folder_of(cluster: str) -> str:
    """Where a Xen host keeps the disks (`disks/`) and kernels (`boot/`) of a cluster."""
    return f"{XEN_FOLDER}/{cluster}"


def of(cluster: str, architecture: str, machine: Machine, hypervisor: Hypervisor = "qemu",
       arguments: str = "") -> Domain:
    """The domain that a machine of the cluster of that name runs as.

    `arguments` is the command line of the kernel where that comes from outside, which a Xen domain may want.
    """
    domain = Domain(
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
    if hypervisor == "xen":
        return _on_xen(domain, machine, arguments)
    return _on_qemu(domain, machine)


def netboot(node: Domain, arguments: str) -> Domain:
    """The domain that installs a compute node on a Xen host: the node's own but for its kernel.

    It has the node's name and identifier, so the two never run at once, and it never runs twice in a row.  It gets
    none of the node's PCI devices: the installer has no drivers for them.
    """
    folder = f"{folder_of(node.cluster)}/boot"
    kernel = Kernel(f"{folder}/netboot-kernel", f"{folder}/netboot-initrd.img", arguments)
    return dataclasses.replace(node, kernel=kernel, bootloader="", pci=(),
                               on_reboot="destroy")


def _on_xen(domain: Domain, machine: Machine, arguments: str) -> Domain:
    """Nothing boots from the network by itself there: that is what netboot domains are for.

    xenconsoled keeps what it writes to its console, and that is its report channel as well.
    """
    folder = folder_of(domain.cluster)
    paravirtualised = machine.virtualization != "hvm"
    kernel = None
    if paravirtualised and machine.boot == "kernel":
        kernel = Kernel(f"{folder}/boot/kernel", f"{folder}/boot/initrd.img", arguments)
    return dataclasses.replace(
        domain,
        disks=_disks(machine.role, Disk(machine.device or f"{folder}/disks/{machine.name}", "raw", "xvda",
                                        serial="root", boot=1),
                     f"{folder}/disks/{{}}"),
        interfaces=tuple(Interface(bridge_of(domain.cluster, card.network), card.mac) for card in machine.interfaces),
        kernel=kernel,
        hypervisor="xen",
        virtualization=machine.virtualization,
        bootloader="pygrub" if paravirtualised and machine.boot == "pygrub" else "",
        pci=machine.pci,
    )


def _on_qemu(domain: Domain, machine: Machine) -> Domain:
    """The head node boots from its disk only.  A compute node tries its disk and then the network, so an empty disk
    leads to the installer by itself.
    """
    return dataclasses.replace(
        domain,
        disks=_disks(machine.role, Disk(f"{RUN}/disks/{machine.name}.qcow2", "qcow2", "vda", serial="root", boot=1),
                     f"{RUN}/disks/{{}}.img"),
        interfaces=tuple(Interface(card.network, card.mac, boot=2 if machine.role == "compute" and number == 0 else 0)
                         for number, card in enumerate(machine.interfaces)),
        console=f"{RUN}/console/{machine.name}.log",
        report=f"{RUN}/report/{machine.name}",
    )


def _disks(role: Role, root: Disk, place: str) -> tuple[Disk, ...]:
    """The machine's own disk; for a head node the SIS image and its identity as well, whose files are at `place`."""
    given = ("sis", "identity") if role == "head" else ()
    return (root, *(Disk(place.format(name), "raw", f"{root.target[:-1]}{letter}", serial=name, readonly=True)
                    for name, letter in zip(given, "bc", strict=False)))
