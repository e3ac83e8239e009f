"""Where the file systems of a machine lie on its disk: pure arithmetic, shared by head-node disks and the installer.

A DOS label, because every BIOS, GRUB and pygrub reads it: up to four primary partitions, with more of them three
primary ones and the rest inside an extended one.  Everything is aligned to 1 MiB.  Identifiers are derived from roles
and mount points: disks that are alike are equal, and no machine has two of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline import inventory, listing
from pipeline.description import FileSystem, Machine, Role
from pipeline.errors import BuildError, UserError

SECTOR = 512
#: Sectors in a MiB; the first partition starts there, and each logical one leaves as much to its own table.
MIB = (1 << 20) // SECTOR

_NAMESPACE = uuid.UUID("5f2d6b0c-7f0e-5d43-9c1b-0a5ca4c1a57e")
_LINUX, _SWAP, _EXTENDED = "83", "82", "5"

#: What the root file system is called; only one on a machine has a label of ours.
ROOT_LABEL = "/"


@dataclass(frozen=True)
class Partition:
    """One entry of the partition table, in sectors; `filesystem` is None for the extended partition."""

    number: int
    start: int
    sectors: int
    type: str
    filesystem: FileSystem | None
    uuid: str

    @property
    def offset(self) -> int:
        """Where it starts, in bytes."""
        return self.start * SECTOR

    @property
    def size(self) -> int:
        """In bytes."""
        return self.sectors * SECTOR


@dataclass(frozen=True)
class Layout:
    """A machine's disk: its identifier, size, and partitions by number."""

    label_id: str
    sectors: int
    partitions: tuple[Partition, ...]

    @property
    def size(self) -> int:
        return self.sectors * SECTOR

    @property
    def mounts(self) -> tuple[Partition, ...]:
        """The partitions with a file system in the order to mount them, then swap."""
        filled = [partition for partition in self.partitions if partition.filesystem]
        return tuple(sorted(filled, key=_mount_order))

    def uuid_of(self, mount: str) -> str:
        """The UUID of the file system that is mounted there."""
        return next(item.uuid for item in self.partitions if item.filesystem and item.filesystem.mount == mount)

    def sfdisk_script(self) -> str:
        """The partition table as sfdisk reads it."""
        lines = ["label: dos", f"label-id: {self.label_id}", "unit: sectors", ""]
        for partition in self.partitions:
            bootable = ", bootable" if partition.number == 1 else ""
            lines.append(
                f"disk{partition.number} : start={partition.start}, size={partition.sectors}, "
                f"type={partition.type}{bootable}"
            )
        return "\n".join(lines) + "\n"

    def below(self, place: str) -> list[str]:
        """The mount points inside a file system, as seen from its own root."""
        prefix = place.rstrip("/")
        mounts = [item.filesystem.mount for item in self.mounts if item.filesystem]
        return [mount.removeprefix(prefix) for mount in mounts if mount != place and mount.startswith(f"{prefix}/")]

    def home_of(self, path: str) -> str:
        """The mount point of the file system that a path (without a slash in front) lies on."""
        inside = [mount for mount in self.below("/") if f"/{path}/".startswith(f"{mount}/")]
        return max(inside, key=len, default="/")

    def table(self, inodes: Mapping[str, int]) -> str:
        """What the installer makes and mounts, in order: lines `number type mount uuid inodes`; 0: as many as usual."""
        rows = [
            (item.number, item.filesystem.type, item.filesystem.mount, item.uuid, inodes.get(item.filesystem.mount, 0))
            for item in self.mounts
            if item.filesystem
        ]
        return "".join(" ".join(map(str, row)) + "\n" for row in rows)


def identifier(*names: str) -> uuid.UUID:
    """The identifier of what these names say, the same on every machine."""
    return uuid.uuid5(_NAMESPACE, "/".join(names))


def of(machine: Machine) -> Layout:
    """The layout of a machine's disk."""
    return planned(machine.role, machine.disk_mib, machine.filesystems, machine.name)


def planned(role: Role, disk_mib: int, filesystems: Iterable[FileSystem], who: str) -> Layout:
    """The layout of the disks of a role.  Raises UserError, which tells `who`, when the file systems do not fit."""
    ordered = sorted(filesystems, key=_disk_order)
    if not any(item.mount == "/" for item in ordered):
        raise UserError(f"{who}: no file system is mounted at /", hint='add one with mount = "/"')
    sizes = _sizes(disk_mib, ordered, who)
    partitions: list[Partition] = []
    start, end = MIB, disk_mib * MIB
    number = 1
    for position, (item, size) in enumerate(zip(ordered, sizes, strict=True)):
        if position == 3 and len(ordered) > 4:
            partitions.append(Partition(4, start, end - start, _EXTENDED, None, ""))
            number = 5
        if number > 4:
            start += MIB
        kind = _SWAP if item.type == "swap" else _LINUX
        name = str(identifier(role, item.mount, "" if item.mount != "swap" else str(number)))
        partitions.append(Partition(number, start, size * MIB, kind, item, name))
        start += size * MIB
        number += 1
    label = identifier(role).int & 0xFFFF_FFFF
    return Layout(f"0x{label:08x}", end, tuple(partitions))


def require_together(who: str, layout: Layout, content: inventory.Tree) -> None:
    """An error where the names of one file would lie on different file systems."""
    for names in listing.names_of_one_file(content):
        homes = {layout.home_of(name): name for name in names}
        if len(homes) > 1:
            one, other = (f"/{inventory.shown(name)}" for name in list(homes.values())[:2])
            raise BuildError(
                f"{who}: {one} and {other} are one file (hard links), "
                f"and would lie on different file systems ({' and '.join(homes)})",
                hint="let them lie on one, in the cluster's manifest",
            )


def _sizes(disk_mib: int, ordered: Sequence[FileSystem], who: str) -> list[int]:
    """The size of each file system in MiB; at most one takes what the others leave."""
    tables = 1 + (len(ordered) - 3 if len(ordered) > 4 else 0)
    wanted = sum(item.size_mib for item in ordered)
    left = disk_mib - tables - wanted
    open_ended = [item.mount for item in ordered if item.size_mib == 0]
    if len(open_ended) > 1:
        raise UserError(
            f"{who}: {' and '.join(open_ended)} both take the rest of the disk",
            hint="give all file systems but one a size",
        )
    if left < (16 if open_ended else 0):
        raise UserError(
            f"{who}: the file systems need {wanted + tables + (16 if open_ended else 0)} MiB, "
            f"the disk has {disk_mib} MiB",
            hint="make the disk larger, or a file system smaller",
        )
    return [item.size_mib or left for item in ordered]


def _disk_order(item: FileSystem) -> tuple[int, str]:
    """The boot loader looks for its files on the first partition: /boot, or the root that holds it."""
    return {"/boot": 0, "/": 1, "swap": 2}.get(item.mount, 3), item.mount


def _mount_order(partition: Partition) -> tuple[bool, str]:
    assert partition.filesystem is not None
    return partition.filesystem.mount == "swap", partition.filesystem.mount
