"""Clusters: a head node, compute nodes, two networks, and the OPKGs that make a cluster of them.

Everything has a default that suits a small machine, so that a manifest says what is special about its cluster.
Sizes are MiB here and text like "512M" in the file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.manifests.fields import (
    LARGEST_MIB,
    Address,
    Domain,
    FilePath,
    HostName,
    Items,
    MacPrefix,
    Mebibytes,
    MebibytesOrFill,
    Subnet,
)
from pipeline.manifests.loader import Manifest, Table
from pipeline.manifests.xen import XenTable
from pipeline.mistakes import Faults, Key, did_you_mean, quoted, shown
from pipeline.packages.families import FAMILIES

#: With less, the kernel's OOM killer ends services while the machine boots.
LEAST_MEMORY_MIB = 320

#: Linux numbers partitions of virtual disks up to 15, and the extended one takes a number too.
MOST_FILE_SYSTEMS = 14

#: Half of the last three bytes of a MAC count machines.
MOST_NODES = 65535

_LEAST_PARTITION_MIB = 16


class FileSystemTable(Table):
    """One partition of a machine's disk."""

    mount: str
    """The mount point like "/" or "/home", or "swap"."""
    size: MebibytesOrFill
    """The size like "512M" or "2G", or "fill" for what is left of the disk."""


def _default_disk(root: int, swap: int) -> tuple[FileSystemTable, ...]:
    return (FileSystemTable.model_construct(mount="/", size=root),
            FileSystemTable.model_construct(mount="swap", size=swap))


class MachineTable(Table):
    """What the head node and compute nodes have in common."""

    memory: Mebibytes
    """The size of the memory, like "512M"."""
    cpus: Annotated[int, Field(ge=1, le=128)] = 1
    """The number of processors."""
    disk: Mebibytes | None = None
    """The size of the disk; without it, what the file systems add up to."""
    filesystems: Items[FileSystemTable]
    """The partitions: the root file system, and usually swap."""

    @property
    def disk_mib(self) -> int:
        """The size of the disk, given or added up."""
        return self.disk or self._needed_mib

    @property
    def _needed_mib(self) -> int:
        """The file systems, and 1 MiB for each partition table: the disk's, and one for each logical partition."""
        count = len(self.filesystems)
        tables = 1 + (count - 3 if count > 4 else 0)
        return tables + sum(item.size for item in self.filesystems)

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*self._memory_faults(), *self._file_system_faults(), *self._disk_faults()]
        if faults:
            raise Faults(faults)
        return self

    def _memory_faults(self) -> Iterator[tuple[Key, str]]:
        if self.memory < LEAST_MEMORY_MIB:
            yield ("memory",), (f"{self.memory} MiB is too little: services are killed while the machine boots; "
                                f'expected at least "{LEAST_MEMORY_MIB}M"')

    def _file_system_faults(self) -> Iterator[tuple[Key, str]]:
        seen: set[str] = set()
        for index, item in enumerate(self.filesystems):
            key = ("filesystems", index)
            wrong = _wrong_mount(item.mount)
            if wrong:
                yield (*key, "mount"), wrong
            if item.mount in seen:
                yield (*key, "mount"), f"{quoted(item.mount)} is there twice; expected each mount point once"
            seen.add(item.mount)
            if 0 < item.size < _LEAST_PARTITION_MIB:
                yield (*key, "size"), f'{item.size} MiB is too small; expected at least "{_LEAST_PARTITION_MIB}M"'
        if "/" not in seen:
            yield ("filesystems",), 'no root file system; expected an entry with mount = "/"'
        if len(self.filesystems) > MOST_FILE_SYSTEMS:
            yield ("filesystems",), f"{len(self.filesystems)} partitions; expected at most {MOST_FILE_SYSTEMS}"

    def _disk_faults(self) -> Iterator[tuple[Key, str]]:
        filling = [index for index, item in enumerate(self.filesystems) if item.size == 0]
        for index in filling[1:]:
            yield ("filesystems", index, "size"), '"fill" is there twice; expected at most one'
        for index in filling[:1]:
            if self.disk is None:
                yield ("filesystems", index, "size"), '"fill" needs to know the disk; expected disk = "..." beside it'
        least = self._needed_mib + (_LEAST_PARTITION_MIB if filling else 0)
        if self.disk is not None and self.disk < least:
            yield ("disk",), f'{self.disk} MiB is too small for the file systems; expected at least "{least}M"'
        if least > LARGEST_MIB:
            yield ("filesystems",), f'larger than a DOS partition table can say; expected at most "{LARGEST_MIB}M"'


def _wrong_mount(mount: str) -> str:
    """What is wrong with a mount point, or ""."""
    if mount in ("/", "swap"):
        return ""
    if not mount.startswith("/"):
        return f'{quoted(mount)} is not a mount point; expected a path that begins with "/", or "swap"' + (
            f"; did you mean {quoted('/' + mount)}?" if re.fullmatch(r"[a-z0-9/]+", mount) else "")
    if not re.fullmatch(r"(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)+", mount):
        return f"{quoted(mount)} is not a plain absolute path; expected names of letters, digits and . _ -"
    if mount.split("/")[1] in ("proc", "sys", "dev", "run", "etc", "usr"):
        return f"{quoted(mount)} can't be on a partition of its own: a machine needs it to start"
    return ""


class Head(MachineTable):
    """The head node."""

    name: HostName = "head"
    """The host name."""
    memory: Mebibytes = 512
    filesystems: Items[FileSystemTable] = _default_disk(3072, 256)


class Compute(MachineTable):
    """The compute nodes: all alike."""

    prefix: HostName = "node"
    """The host name without the number: "node" for node1, node2, ..."""
    count: Annotated[int, Field(ge=1, le=MOST_NODES)] = 2
    """How many there are."""
    memory: Mebibytes = 384
    filesystems: Items[FileSystemTable] = _default_disk(2048, 256)


class NetworkTable(Table):
    """What both networks have in common."""

    cidr: Subnet
    """The subnet, like "10.77.1.0/24"."""
    mac_prefix: MacPrefix = "00:16:3e"
    """The first three bytes of all MAC addresses; the default is Xen's."""

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.cidr)

    def _address_faults(self, addresses: dict[str, str]) -> Iterator[tuple[Key, str]]:
        """Addresses outside the subnet or given twice."""
        users: dict[str, str] = {}
        for field, address in addresses.items():
            ends = (self.subnet.network_address, self.subnet.broadcast_address)
            if ipaddress.IPv4Address(address) not in self.subnet or ipaddress.IPv4Address(address) in ends:
                yield (field,), (f"{quoted(address)} is not in the subnet {self.cidr}; expected one from "
                                 f"{self.subnet[1]} to {self.subnet[-2]}")
            elif address in users:
                yield (field,), f"{quoted(address)} is the address of {users[address]} too; expected a free one"
            users.setdefault(address, field)


class PublicNetwork(NetworkTable):
    """The network between the host and the head node."""

    cidr: Subnet = "10.77.0.0/24"
    host: Address | None = None
    """The address of the host's end; without it, the last one of the subnet."""
    head: Address | None = None
    """The address of the head node; without it, the first one of the subnet."""

    @property
    def host_address(self) -> str:
        return self.host or str(self.subnet[-2])

    @property
    def head_address(self) -> str:
        return self.head or str(self.subnet[1])

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(self._address_faults({"host": self.host_address, "head": self.head_address}))
        if faults:
            raise Faults(faults)
        return self


class PrivateNetwork(NetworkTable):
    """The network between the head node and the compute nodes."""

    cidr: Subnet = "10.77.1.0/24"
    host: Address | None = None
    """The address of the host's end; without it, the host has none there."""
    head: Address | None = None
    """The address of the head node; without it, the last one of the subnet."""
    first_node: Address | None = None
    """The address of the first compute node, the others follow; without it, the first one of the subnet."""

    @property
    def host_address(self) -> str:
        return self.host or ""

    @property
    def head_address(self) -> str:
        return self.head or str(self.subnet[-2])

    @property
    def first_node_address(self) -> str:
        return self.first_node or str(self.subnet[1])

    @property
    def room(self) -> int:
        """How many compute nodes fit: from the first one's address to the next that is taken."""
        first = ipaddress.IPv4Address(self.first_node_address)
        taken = [self.subnet.broadcast_address, ipaddress.IPv4Address(self.head_address)]
        taken += [ipaddress.IPv4Address(self.host)] if self.host else []
        return min(int(address) - int(first) for address in taken if address > first)

    @model_validator(mode="after")
    def _check(self) -> Self:
        named = {"host": self.host_address, "head": self.head_address, "first_node": self.first_node_address}
        faults = list(self._address_faults({field: address for field, address in named.items() if address}))
        if faults:
            raise Faults(faults)
        return self


class Networks(Table):
    """The two networks of a cluster."""

    public: PublicNetwork = PublicNetwork()
    """The network between the host and the head node (its eth0)."""
    private: PrivateNetwork = PrivateNetwork()
    """The network between the head node (its eth1) and the compute nodes (their eth0)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.public.subnet.overlaps(self.private.subnet):
            text = f"{quoted(self.private.cidr)} overlaps the public {self.public.cidr}; expected another subnet"
            raise Faults([(("private", "cidr"), text)])
        return self


def _same_names(files: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Files whose names are taken: links stand for what they point at, and folders make no difference."""
    first: dict[str, tuple[int, str]] = {}
    for index, file in enumerate(files):
        place, other = first.setdefault(Path(file).resolve().name, (index, file))
        if place != index:
            yield index, f'"{shown(Path(file))}" has the file name of "{shown(Path(other))}"; expected different ones'


class LocalPackages(Table):
    """Package files under test, installed over those of the distribution."""

    head: Items[FilePath] = ()
    """The package files for the head node: paths from the manifest's folder (absolute once it is read)."""
    compute: Items[FilePath] = ()
    """The package files for compute nodes: paths from the manifest's folder (absolute once it is read)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [((side, index), text) for side in ("head", "compute")
                  for index, file in enumerate(getattr(self, side)) if (text := _wrong_package_file(file))]
        faults += [((side, index), text) for side in ("head", "compute")
                   for index, text in _same_names(getattr(self, side))]
        if faults:
            raise Faults(faults)
        return self


class Cluster(Manifest):
    """A virtual cluster: `recipes/clusters/NAME.toml`."""

    extends: str | None = None
    """The name of another cluster that this one is like, but for what stands here."""
    distro: str
    """The name of a distribution (a file in recipes/distros)."""
    host: str = "local"
    """The name of the host that it runs on (a file in recipes/hosts)."""
    domain: Domain = "oscar.internal"
    """The domain name that host names stand in."""
    opkgs: Items[str] = ()
    """The OPKGs (folders in recipes/opkgs) in the order of their installation; those of class "core" are always in."""
    head: Head = Head()
    """The head node."""
    compute: Compute = Compute()
    """The compute nodes."""
    networks: Networks = Networks()
    """The networks."""
    packages: LocalPackages = LocalPackages()
    """Package files under test."""
    xen: XenTable = XenTable()
    """How the machines are run on a Xen host; nothing of it counts elsewhere."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [*self._name_faults(), *self._room_faults(), *self._opkg_faults(), *self._xen_faults()]
        if faults:
            raise Faults(faults)
        return self

    def _name_faults(self) -> Iterator[tuple[Key, str]]:
        prefix, name = self.compute.prefix, self.head.name
        if name in ("sis", "identity"):
            yield ("head", "name"), f"{quoted(name)} is the name of a disk of the head node; expected another name"
        if name == "localhost":
            yield ("head", "name"), '"localhost" means each machine itself; expected another name'
        if re.fullmatch(re.escape(prefix) + "[0-9]+", name):
            yield ("head", "name"), f"{quoted(name)} is a compute node's name too; expected another one"
        longest = f"{prefix}{self.compute.count}"
        if len(longest) > 63:
            yield ("compute", "prefix"), f"too long: {quoted(longest)} has {len(longest)} letters; expected at most 63"

    def _room_faults(self) -> Iterator[tuple[Key, str]]:
        private = self.networks.private
        if self.compute.count > private.room:
            yield ("compute", "count"), (f"{self.compute.count} nodes don't fit: {private.cidr} has room for "
                                         f"{private.room} from {private.first_node_address} on; expected fewer nodes "
                                         "or a larger subnet in networks.private.cidr")

    def _opkg_faults(self) -> Iterator[tuple[Key, str]]:
        for index, name in enumerate(self.opkgs):
            if name in self.opkgs[:index]:
                yield ("opkgs", index), f"{quoted(name)} is there twice; expected each OPKG once"

    def _xen_faults(self) -> Iterator[tuple[Key, str]]:
        for key, text in self.xen.faults(self.head.name, self.compute.prefix, self.compute.count):
            yield ("xen", *key), text


def _wrong_package_file(path: str) -> str:
    """What is wrong with a package file under test, or ""."""
    file = Path(path)
    family = next((one for one in FAMILIES.values() if one.suffix == file.suffix), None)
    if family is None:
        kinds = " or ".join(one.called for one in FAMILIES.values())
        ends = " or ".join(f'"{one.suffix}"' for one in FAMILIES.values())
        return f"{quoted(file.name)} is no {kinds}; expected a file whose name ends in {ends}"
    try:
        with file.open("rb") as stream:
            if stream.read(len(family.magic)) == family.magic:
                return ""
    except OSError as error:
        folder = file.parent
        others = [entry.name for entry in folder.glob(f"*{family.suffix}")] if folder.is_dir() else []
        return f'"{shown(file)}" cannot be read: {error.strerror}{did_you_mean(file.name, others)}'
    return f'"{shown(file)}" is no {family.called}, whatever its name says'
