"""Checks of one machine against its description: each a pure function from facts to what is wrong with them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.checks.facts import Block, Facts, FactsError
from pipeline.checks.files import as_changed, checksums, compare
from pipeline.description import FileSystem, Machine, Network, Role
from pipeline.guests.guest import Known
from pipeline.inventory import Changes, Tree
from pipeline.packages.family import Family

_MIB = 1024 * 1024
#: Partitions are aligned and a swap area loses its first page; nothing else may make a size differ.
_ALIGNMENT_MIB = 2
#: What an ext4 file system keeps for itself (journal, inode tables) is less than this share of its partition.
_OVERHEAD = 0.15
#: Memory that the kernel takes before it counts: its own text, and the page table of all memory.
_KERNEL_MIB = 96
_PARTITION_TYPES: Mapping[str, int] = {"swap": 0x82}
_LINUX = 0x83
_EXTENDED = (0x05, 0x0F, 0x85)
_CLOCK_TOLERANCE = 2.0

#: What a kernel log must not hold.  Stalls are not among these: a busy host makes them under emulation.
_TROUBLE = re.compile(
    r"Kernel panic|\bOops\b|general protection fault|kernel BUG at|Out of memory|oom-kill|invoked oom-killer|"
    r"EXT4-fs (?:error|warning)|EXT4-fs \([^)]*\): (?:error|.*remounting filesystem read-only)|"
    r"Buffer I/O error|I/O error, dev|blk_update_request: .*error|segfault at",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Subject:
    """What a check looks at: a machine as described and as found, and what it was made from.

    `networks` are the cluster's; `packages` is name -> version of all that must be installed; `files` is what the SIS
    image holds, or the head node's disk; `known` are the paths that differ on any machine of this kind; `family` is
    that of its packages; `configured` is path -> who changed it when the machine was made already; `changes` is what
    stands where OPKGs that came or went meanwhile have changed it.
    """

    machine: Machine
    facts: Facts
    networks: Sequence[Network]
    packages: Mapping[str, str]
    files: Tree
    known: Sequence[Known]
    family: Family
    configured: Mapping[str, str] = field(default_factory=dict)
    changes: Changes = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What a check found: `problems` one line each, none when all is well; `seen` says in a line what was checked."""

    problems: tuple[str, ...] = ()
    seen: str = ""
    output: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Check:
    """A check by its name in reports, and the roles it applies to; `from_head`: the head node says it of a node."""

    name: str
    evaluate: Callable[[Subject], Finding]
    roles: tuple[Role, ...] = ("head", "compute")
    from_head: bool = False


def ping(subject: Subject) -> Finding:
    """The head node finds the node by its name, at an address that is the node's, and gets an echo."""
    text = subject.facts.text("ping")
    found = next(iter(text.split()), "")
    addresses = [interface.address for interface in subject.machine.interfaces]
    problems = []
    if found not in addresses:
        problems.append(f"the head node does not find it at {' or '.join(addresses)}")
    if not text.rstrip().endswith("\nstatus 0"):
        problems.append("no echo")
    trip = re.search(r"time=(\S+ ms)", text)
    return Finding(tuple(problems), f"{found} in {trip[1]}" if trip else found, text)


def ssh(subject: Subject) -> Finding:
    """The head node's own ssh gets in without a question, and a script runs there to its end."""
    status, said = subject.facts.text("status").strip(), subject.facts.text("err").strip()
    if status != "0":
        return Finding(
            (f"exit status {status or 'unknown'}: {said.splitlines()[-1] if said else 'it said nothing'}",), output=said
        )
    return Finding(() if subject.facts.complete else ("the connection broke off",), "a script ran to its end", said)


def host_name(subject: Subject) -> Finding:
    """The kernel's host name is the machine's, with or without its domain."""
    found = subject.facts.hostname
    wrong = found.partition(".")[0] != subject.machine.name
    return Finding((f"it calls itself {found or 'nothing'}, not {subject.machine.name}",) if wrong else (), found)


def hardware(subject: Subject) -> Finding:
    """Processors, memory and disks for data as described; the kernel keeps some memory for itself."""
    machine, facts = subject.machine, subject.facts
    problems = []
    if facts.cpus != machine.cpus:
        problems.append(f"{facts.cpus} processors, not {machine.cpus}")
    if not machine.memory_mib * 0.9 - _KERNEL_MIB <= facts.memory_mib <= machine.memory_mib:
        problems.append(f"{facts.memory_mib} MiB of memory, not {machine.memory_mib}")
    plural = "" if facts.cpus == 1 else "s"
    seen = [f"{facts.cpus} processor{plural}", f"{facts.memory_mib} MiB of memory"]
    for disk in machine.disks:
        names = machine.names_of(disk.name)
        found = next((block for block in facts.blocks if block.name in names), None)
        if found is None:
            problems.append(f"there is no disk {' or '.join(names)}, which is to be {disk.name}")
            continue
        if found.size != disk.size_mib * _MIB:
            problems.append(f"{found.name} ({disk.name}) has {found.size // _MIB} MiB, not {disk.size_mib}")
        seen.append(f"{found.name} {disk.name} {found.size // _MIB} MiB")
    return Finding(tuple(problems), ", ".join(seen))


def network(subject: Subject) -> Finding:
    """Every interface has its MAC and its address and no other.

    Interfaces that nobody described (bridges of containers, tunnels, VLANs) are the OPKGs' business, and only told of;
    but nothing of the cluster's own networks may be reached through them.
    """
    facts, problems, seen = subject.facts, [], []
    expected = {interface.name: interface for interface in subject.machine.interfaces}
    for name, interface in expected.items():
        mac, address = facts.macs.get(name), f"{interface.address}/{interface.prefix}"
        if mac is None:
            problems.append(f"there is no {name}")
            continue
        if mac.lower() != interface.mac.lower():
            problems.append(f"{name} has MAC {mac}, not {interface.mac}")
        found = facts.addresses.get(name, ())
        if address not in found:
            problems.append(f"{name} has {', '.join(found) or 'no address'}, not {address}")
        problems += [f"{name} has {other}, which nobody gave it" for other in found if other != address]
        seen.append(f"{name} {address}")
    others = [(name, address) for name in facts.addresses.keys() - expected.keys() for address in facts.addresses[name]]
    for name, address in sorted(others):
        reached = ipaddress.ip_interface(address).network
        problems += [
            f"{name} has {address}, which overlaps the cluster's network {own.cidr}"
            for own in subject.networks
            if reached.overlaps(ipaddress.ip_network(own.cidr))
        ]
    if others:
        seen.append("besides " + ", ".join(f"{name} {address}" for name, address in sorted(others)))
    return Finding(tuple(problems), ", ".join(seen))


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


def packages(subject: Subject) -> Finding:
    """The installed packages are those of the lock: none more, none less, the same versions, all whole."""
    found, expected = subject.facts.packages, subject.packages
    extra = [f"+ {name} {found[name][0]}" for name in sorted(found.keys() - expected.keys())]
    missing = [f"- {name} {expected[name]}" for name in sorted(expected.keys() - found.keys())]
    both = sorted(found.keys() & expected.keys())
    other = [f"! {name} {found[name][0]}, not {expected[name]}" for name in both if found[name][0] != expected[name]]
    broken = [f"? {name} is {state}, not whole" for name, (_, state) in sorted(found.items()) if state != "whole"]
    counts = {"not in the lock": extra, "missing": missing, "of another version": other, "half installed": broken}
    problems = tuple(
        f"{len(items)} {how}: {_few([item.split()[1] for item in items])}" for how, items in counts.items() if items
    )
    return Finding(problems, f"{len(found)} packages", "\n".join(extra + missing + other + broken))


def files(subject: Subject) -> Finding:
    """The files are those of the image, or of the head node's disk, in all that Linux keeps of them, but for the known
    few."""
    made, facts = subject.files, subject.facts
    differences = compare(
        as_changed(made, subject.changes),
        facts.tree,
        facts.sums,
        subject.machine.role,
        subject.known,
        subject.family,
        subject.configured,
    )
    wanted = sum(
        entry.type == "f" and path in facts.tree and facts.tree[path].type == "f" for path, entry in made.items()
    )
    if subject.machine.role == "compute":  # which is told those of its image, and these
        wanted += len(checksums(subject.changes))
    if facts.summed < wanted:
        raise FactsError(f"the contents of {facts.summed} files were compared, not of {wanted}")
    bad = [item for item in differences if item.known is None]
    problems = tuple(
        f"{len(paths)} {kind}: {_few(paths)}"
        for kind in sorted({item.kind for item in bad})
        if (paths := [item.shown for item in bad if item.kind == kind])
    )
    lines = [f"{item.kind:9} {item.shown}  {item.detail}" for item in bad]
    known = [f"{item.kind:9} {item.shown}  ({item.known})" for item in differences if item.known is not None]
    output = "\n".join([*lines, *([f"{len(known)} known differences:"] if known else []), *known])
    seen = f"{len(made)} entries compared, {len(known)} known differences"
    return Finding(problems, seen, output, subject.facts.elapsed)


def services(subject: Subject) -> Finding:
    """No service failed."""
    failed = subject.facts.failed_services
    return Finding(
        (f"failed: {_few(list(failed))}",) if failed else (),
        "none failed",
        subject.facts.text("servicelog") if failed else "",
    )


def clock(subject: Subject) -> Finding:
    """The clock agrees with the head node's, as exactly as that can be known over a slow connection."""
    least, most = subject.facts.clock
    middle = (least + most) / 2
    told = f"{abs(middle):.2f} s {'ahead of' if middle > 0 else 'behind'} the head node, known to {most - middle:.2f} s"
    return Finding((told,) if least > _CLOCK_TOLERANCE or most < -_CLOCK_TOLERANCE else (), told)


def kernel(subject: Subject) -> Finding:
    """The kernel that runs is one that the image holds, or the head node's disk."""
    running = subject.facts.kernel
    available = [path.removeprefix("boot/vmlinuz-") for path in subject.files if path.startswith("boot/vmlinuz-")]
    wrong = running not in available
    return Finding((f"{running} runs, there is {_few(available) or 'no kernel'}",) if wrong else (), running)


def kernel_log(subject: Subject) -> Finding:
    """The kernel met no trouble: no panic, nothing killed for memory, no input/output or file system error."""
    lines = [line for line in subject.facts.text("dmesg").splitlines() if _TROUBLE.search(line)]
    if not re.search(r"^(?:<\d+>)?\[", subject.facts.text("dmesg"), re.MULTILINE):
        raise FactsError("the kernel's log is empty or cannot be read")
    return Finding(tuple(line.strip() for line in lines[:1]), "no trouble", "\n".join(lines))


#: In the order of a report: first whether a machine is there at all.
CHECKS: tuple[Check, ...] = (
    Check("ping", ping, ("compute",), from_head=True),
    Check("ssh", ssh, ("compute",), from_head=True),
    Check("host name", host_name),
    Check("hardware", hardware),
    Check("network", network),
    Check("clock", clock, ("compute",)),
    Check("kernel", kernel),
    Check("kernel log", kernel_log),
    Check("services", services),
    Check("partitions", partitions),
    Check("file systems", file_systems),
    Check("swap", swap),
    Check("image disk", image_disk, ("head",)),
    Check("packages", packages),
    Check("disk files", files, ("head",)),
    Check("image files", files, ("compute",)),
)


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


def _few(items: list[str], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
