"""Checks of a machine's disks against its plan: partitions, file systems, swap areas, the SIS image."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.checks.facts import Block, Facts, FactsError
from pipeline.checks.subject import Finding, Subject
from pipeline.description import FileSystem, Machine

_MIB = 1024 * 1024
#: Partitions are aligned and a swap area loses its first page; nothing else may make a size differ.
_ALIGNMENT_MIB = 2
#: What an ext4 file system keeps for itself (journal, inode tables) is less than this share of its partition.
_OVERHEAD = 0.15
_PARTITION_TYPES: Mapping[str, int] = {"swap": 0x82}
_LINUX = 0x83
_EXTENDED = (0x05, 0x0F, 0x85)


def partitions(subject: Subject) -> Finding:
    """The disk has the partitions of the plan and no others: sizes and types."""
    machine, facts, problems, seen = subject.machine, subject.facts, [], []
    root = facts.mounts.get("/")
    if root is None:
        raise FactsError("nothing is mounted on /")
    disk = facts.block(facts.block(root.device).disk)
    found = [block for block in facts.blocks if block.disk == disk.name and block.number]
    found = [block for block in found if facts.partition_types.get((disk.name, block.number)) not in _EXTENDED]
    # a device of the VM container may be larger than what is needed of it
    if disk.size < machine.disk_mib * _MIB or (disk.size > machine.disk_mib * _MIB and not machine.device):
        problems.append(f"{disk.name} has {disk.size // _MIB} MiB, not {machine.disk_mib}")
    if len(found) != len(machine.filesystems):
        problems.append(f"{disk.name} has {len(found)} partitions, not {len(machine.filesystems)}")
    fixed = sum(plan.size_mib for plan in machine.filesystems)
    for plan, block in _homes(machine, facts):
        if block is None or block.disk != disk.name:
            problems.append(f"{plan.mount} is on no partition of {disk.name}")
            continue
        size, slack = plan.size_mib, _ALIGNMENT_MIB
        if not size:
            size, slack = machine.disk_mib - fixed, _ALIGNMENT_MIB * (len(machine.filesystems) + 1)
        kind = facts.partition_types.get((disk.name, block.number))
        wanted = _PARTITION_TYPES.get(plan.type, _LINUX)
        if abs(block.size / _MIB - size) > slack:
            problems.append(f"{block.name} ({plan.mount}) has {block.size / _MIB:.0f} MiB, not {size}")
        if block.number <= 4 and kind != wanted:
            problems.append(f"{block.name} ({plan.mount}) has type {kind or 0:02x}, not {wanted:02x}")
        seen.append(f"{block.name} {plan.mount} {block.size / _MIB:.0f} MiB")
    return Finding(tuple(problems), ", ".join(seen), facts.text("blocks"))


def file_systems(subject: Subject) -> Finding:
    """What the plan mounts is mounted: the type, read and write, and as large as its partition."""
    facts, problems, seen = subject.facts, [], []
    for plan in subject.machine.filesystems:
        mount = facts.mounts.get(plan.mount)
        if plan.type == "swap":
            continue
        if mount is None:
            problems.append(f"nothing is mounted on {plan.mount}")
            continue
        if mount.type != plan.type:
            problems.append(f"{plan.mount} is {mount.type}, not {plan.type}")
        if not mount.writable:
            problems.append(f"{plan.mount} cannot be written")
        size, whole = facts.sizes.get(plan.mount, 0), facts.block(mount.device).size
        if not whole * (1 - _OVERHEAD) <= size <= whole:
            problems.append(f"{plan.mount} has {size // _MIB} MiB of its partition's {whole // _MIB}")
        seen.append(f"{plan.mount} {mount.type} {size // _MIB} MiB")
    return Finding(tuple(problems), ", ".join(seen), facts.text("sizes"))


def swap(subject: Subject) -> Finding:
    """The swap areas of the plan are in use, and no others."""
    facts, problems = subject.facts, []
    planned = [plan for plan in subject.machine.filesystems if plan.type == "swap"]
    if len(facts.swaps) != len(planned):
        problems.append(f"{len(facts.swaps)} swap areas are in use, not {len(planned)}")
    for device, size in facts.swaps:
        whole = facts.block(device).size
        if not 0 <= whole - size <= _MIB:
            problems.append(f"{device}: {size // _MIB} MiB of its partition's {whole // _MIB} are in use")
    seen = ", ".join(f"{device} {size // _MIB} MiB" for device, size in facts.swaps)
    return Finding(tuple(problems), seen or "none", facts.text("swaps"))


def image_disk(subject: Subject) -> Finding:
    """The SIS image is mounted where SystemImager keeps images, and cannot be changed."""
    point = "/var/lib/systemimager"
    mount = subject.facts.mounts.get(point)
    if mount is None:
        return Finding((f"nothing is mounted on {point}",))
    return Finding((f"{point} can be written",) if mount.writable else (), f"{point} {mount.type}, read only")


def _homes(machine: Machine, facts: Facts) -> list[tuple[FileSystem, Block | None]]:
    """Each planned file system with the partition it was found on; swap areas in the plan's order."""
    swaps = [device for device, _ in facts.swaps]
    homes: list[tuple[FileSystem, Block | None]] = []
    for plan in machine.filesystems:
        if plan.type == "swap":
            device = swaps.pop(0) if swaps else None
        else:
            device = facts.mounts[plan.mount].device if plan.mount in facts.mounts else None
        homes.append((plan, facts.block(device) if device else None))
    return homes
