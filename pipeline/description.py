"""What a cluster is once every name, address and MAC has been given: plain, frozen, JSON-able data.

`manifests.describing` makes a `Cluster` of a manifest; builders, the hypervisor, the running cluster and the checks
read it.  Nothing here knows recipes, files or libvirt.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

#: How a machine comes up: a head node from its disk, a compute node is installed by it first.
Role = Literal["head", "compute"]
#: How a Xen domain sees its hardware: paravirtualised, paravirtualised in a hardware container, fully virtualised.
Virtualization = Literal["pv", "pvh", "hvm"]
Hypervisor = Literal["qemu", "xen"]
DiskKind = Literal["throwaway", "kept"]
#: What a machine has for disks, network cards and its report channel where nothing but its system says it: virtio; or
#: what PCs had in 2005: IDE, Intel's e1000, a second serial port.
Devices = Literal["virtio", "pc"]
#: Where a Xen domain's kernel comes from: its own disk, read by pygrub, or a file on the VM container.
Boot = Literal["pygrub", "kernel"]


@dataclass(frozen=True)
class FileSystem:
    """One partition.  `mount` is a path, or "swap"; `size_mib` 0 = whatever is left; `type` ext4, ext3 or swap."""

    mount: str
    size_mib: int
    type: str


@dataclass(frozen=True)
class DataDisk:
    """A disk for data, beside the one that the system is on; empty when it is new.  A "kept" one outlives its cluster
    and every installation, a "throwaway" one goes with its machine."""

    name: str
    size_mib: int
    kind: DiskKind


@dataclass(frozen=True)
class Interface:
    """A network card: `name` as the machine sees it (eth0), its network, MAC and IPv4 address with prefix length."""

    name: str
    network: str
    mac: str
    address: str
    prefix: int


@dataclass(frozen=True)
class Network:
    """`cidr` is the subnet; `host_address` is the address of the VM container's end of the bridge ("" = none)."""

    name: str
    cidr: str
    host_address: str


@dataclass(frozen=True)
class Host:
    """A VM container.  `connection` is "private" (a libvirt for each cluster), "testbed" (an emulated machine with
    `distro`, its flavour `guest`, `memory_mib` and `cpus`, which otherwise are empty) or a libvirt URI."""

    name: str
    hypervisor: Hypervisor
    connection: str
    distro: str = ""
    memory_mib: int = 0
    cpus: int = 0
    guest: str = ""


@dataclass(frozen=True)
class Machine:
    """A head or compute node.  `membership` says what kind of machine it is: "head", or one of those that are installed
    ("compute", or whatever the manifest calls another).  `index` counts from 1 within it, 0 is the head node.  Disk
    size in MiB.

    `disks` are those for data, `devices` what the system on it has drivers for; `by_label`: it finds its root by that;
    `vsyscall`: its kernel is told to have the page of that name.
    The rest counts on Xen: `device` is a block device of the VM container that is this machine's disk ("" = a disk file
    of ours), `pci` are the container's PCI devices (DDDD:BB:SS.F) that it is given.
    """

    name: str
    membership: str
    index: int
    memory_mib: int
    cpus: int
    disk_mib: int
    filesystems: tuple[FileSystem, ...]
    interfaces: tuple[Interface, ...]
    disks: tuple[DataDisk, ...] = ()
    devices: Devices = "virtio"
    by_label: bool = False
    vsyscall: bool = False
    virtualization: Virtualization = "pv"
    boot: Boot = "pygrub"
    device: str = ""
    pci: tuple[str, ...] = ()

    @property
    def role(self) -> Role:
        return "head" if self.membership == "head" else "compute"

    @property
    def letters(self) -> dict[str, str]:
        """All its disks by name, in order -> the last letter of what they are called in the machine: vda, xvdb ..."""
        given = ("sis", "identity") if self.role == "head" else ()
        return dict(zip(("root", *given, *(disk.name for disk in self.disks)), string.ascii_lowercase, strict=False))

    def names_of(self, disk: str) -> tuple[str, ...]:
        """What a disk for data can be called in the machine, by the driver that its system has."""
        letter = self.letters[disk]
        if self.devices == "virtio":
            return f"vd{letter}", f"xvd{letter}"
        # where IDE disks are SCSI disks to the kernel, what is read-only is a CD there, and no disk
        place = [name for name in self.letters if name not in ("sis", "identity")].index(disk)
        return f"hd{letter}", f"sd{string.ascii_lowercase[place]}"

    def address_on(self, network: str) -> str:
        """This machine's address on `network`; KeyError where it has none."""
        for interface in self.interfaces:
            if interface.network == network:
                return interface.address
        raise KeyError(network)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "filesystems": tuple(FileSystem(**item) for item in data["filesystems"]),
                "interfaces": tuple(Interface(**item) for item in data["interfaces"]),
                "disks": tuple(DataDisk(**item) for item in data["disks"]),
                "pci": tuple(data["pci"]),
            }
        )


@dataclass(frozen=True)
class Secret:
    """A file with random bytes that all machines of a cluster share: `path` is absolute, `size` in bytes."""

    path: str
    size: int


@dataclass(frozen=True)
class Cluster:
    """A whole cluster: the head node, all that are installed in order, the two networks, the OPKGs in manifest order.

    `architecture` is the machines', which a system of another may run on.  `guest` is the flavour of system that they
    run, a module of `guests/`; `secrets` are those of the OPKGs.
    """

    name: str
    distro: str
    architecture: str
    domain: str
    host: str
    networks: tuple[Network, ...]
    head: Machine
    nodes: tuple[Machine, ...]
    opkgs: tuple[str, ...]
    guest: str
    secrets: tuple[Secret, ...] = ()

    @property
    def machines(self) -> tuple[Machine, ...]:
        return (self.head, *self.nodes)

    @property
    def members(self) -> dict[str, tuple[Machine, ...]]:
        """The machines that are installed, by membership; "compute" comes first."""
        found: dict[str, tuple[Machine, ...]] = {}
        for node in self.nodes:
            found[node.membership] = (*found.get(node.membership, ()), node)
        return found

    def network(self, name: str) -> Network:
        return next(network for network in self.networks if network.name == name)

    def machine(self, name: str) -> Machine:
        return next(machine for machine in self.machines if machine.name == name)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls(
            **{
                **data,
                "networks": tuple(Network(**item) for item in data["networks"]),
                "head": Machine.from_json(data["head"]),
                "nodes": tuple(Machine.from_json(item) for item in data["nodes"]),
                "opkgs": tuple(data["opkgs"]),
                "secrets": tuple(Secret(**item) for item in data["secrets"]),
            }
        )
