"""The tables of machines in a cluster's manifest: memory, processors, disks; the head node, and all compute nodes.

Sizes are MiB here and text like "512M" in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.description import DiskKind
from pipeline.manifests.fields import LARGEST_MIB, HostName, Items, Mac, Mebibytes, MebibytesOrFill
from pipeline.manifests.loader import Table
from pipeline.mistakes import Faults, Key, quoted

#: With less, the kernel's OOM killer ends services while the machine boots.
LEAST_MEMORY_MIB = 320

#: Linux numbers partitions of virtual disks up to 15, and the extended one takes a number too.
MOST_FILE_SYSTEMS = 14

#: Half of the last three bytes of a MAC count machines.
MOST_NODES = 65535

MOST_CPUS = 128
_LEAST_PARTITION_MIB = 16

MOST_DATA_DISKS = 12
#: What machines call the disks that they have anyway.
OWN_DISKS = ("root", "sis", "identity")
#: It is the disk's serial number, for which virtio has 20 bytes.
_DISK_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,18}[a-z0-9])?")


class FileSystemTable(Table):
    """One partition of a machine's disk."""

    mount: str
    """The mount point like "/" or "/home", or "swap"."""
    size: MebibytesOrFill
    """The size like "512M" or "2G", or "fill" for what is left of the disk."""


class DataDiskTable(Table):
    """A disk for data, beside the one that the system is on."""

    size: Mebibytes
    """The size like "512M" or "2G"; a disk that is kept may be made larger."""
    kind: DiskKind = "throwaway"
    """"throwaway": it goes with its machine; "kept": what is on it outlives the cluster and every installation."""


def _default_disk(root: int, swap: int) -> tuple[FileSystemTable, ...]:
    return (
        FileSystemTable.model_construct(mount="/", size=root),
        FileSystemTable.model_construct(mount="swap", size=swap),
    )


class MachineTable(Table):
    """What the head node and compute nodes have in common."""

    memory: Mebibytes
    """The size of the memory, like "512M"."""
    cpus: Annotated[int, Field(ge=1, le=MOST_CPUS)] = 1
    """The number of processors."""
    disk: Mebibytes | None = None
    """The size of the disk; without it, what the file systems add up to."""
    filesystems: Items[FileSystemTable]
    """The partitions: the root file system, and usually swap."""
    disks: dict[str, DataDiskTable] = Field(default_factory=dict)
    """The disks for data, by name: empty when they are new."""

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
        faults = [
            *_memory_faults(self.memory),
            *self._file_system_faults(),
            *self._disk_faults(),
            *_data_disk_faults(self.disks),
        ]
        if faults:
            raise Faults(faults)
        return self

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


def _memory_faults(mib: int) -> Iterator[tuple[Key, str]]:
    if mib < LEAST_MEMORY_MIB:
        yield (
            ("memory",),
            (
                f"{mib} MiB is too little: services are killed while the machine boots; "
                f'expected at least "{LEAST_MEMORY_MIB}M"'
            ),
        )


def _data_disk_faults(disks: Mapping[str, DataDiskTable]) -> Iterator[tuple[Key, str]]:
    for name, disk in disks.items():
        if not _DISK_NAME.fullmatch(name):
            yield (
                ("disks", name),
                f"{quoted(name)} is no name of a disk; expected letters a-z, digits and inner hyphens, 20 at most",
            )
        elif name in OWN_DISKS:
            yield ("disks", name), f"{quoted(name)} is the name of a disk that machines have anyway; expected another"
        if disk.size > LARGEST_MIB:
            yield ("disks", name, "size"), f'too large; expected at most "{LARGEST_MIB}M"'
    if len(disks) > MOST_DATA_DISKS:
        yield ("disks",), f"{len(disks)} disks; expected at most {MOST_DATA_DISKS}"


def _wrong_mount(mount: str) -> str:
    """What is wrong with a mount point, or ""."""
    if mount in ("/", "swap"):
        return ""
    if not mount.startswith("/"):
        return f'{quoted(mount)} is not a mount point; expected a path that begins with "/", or "swap"' + (
            f"; did you mean {quoted('/' + mount)}?" if re.fullmatch(r"[a-z0-9/]+", mount) else ""
        )
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


class Installed(MachineTable):
    """What compute nodes and those of other memberships have in common: they are installed by the head node."""

    count: Annotated[int, Field(ge=1, le=MOST_NODES)] = 1
    """How many there are."""
    memory: Mebibytes = 384
    filesystems: Items[FileSystemTable] = _default_disk(2048, 256)


class Compute(Installed):
    """The compute nodes: all alike."""

    prefix: HostName = "node"
    """The host name without the number: "node" for node1, node2, ..."""
    count: Annotated[int, Field(ge=1, le=MOST_NODES)] = 2
    """How many there are."""


class OneMachine(Table):
    """What is special about one machine."""

    memory: Mebibytes | None = None
    """The size of its memory; without it, as [head] or [compute] says."""
    cpus: Annotated[int, Field(ge=1, le=MOST_CPUS)] | None = None
    """The number of its processors; without it, as [head] or [compute] says."""
    mac: Mac | None = None
    """The MAC of a node; without it, one that counts from its number."""
    disks: dict[str, DataDiskTable] = Field(default_factory=dict)
    """Disks for data that it has besides, or that are others than [head] or [compute] says, by name."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = list(_memory_faults(self.memory)) if self.memory is not None else []
        faults += _data_disk_faults(self.disks)
        if faults:
            raise Faults(faults)
        return self
