"""Checks of one machine against its description: each a pure function from facts to what is wrong with them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.checks import disks
from pipeline.checks.facts import FactsError
from pipeline.checks.files import as_changed, checksums, compare
from pipeline.checks.subject import Finding, Subject, few
from pipeline.description import Role

_MIB = 1024 * 1024
#: Memory that the kernel takes before it counts: its own text, and the page table of all memory.
_KERNEL_MIB = 96
_CLOCK_TOLERANCE = 2.0

#: What a kernel log must not hold.  Stalls are not among these: a busy host makes them under emulation.
_TROUBLE = re.compile(
    r"Kernel panic|\bOops\b|general protection fault|kernel BUG at|Out of memory|oom-kill|invoked oom-killer|"
    r"EXT4-fs (?:error|warning)|EXT4-fs \([^)]*\): (?:error|.*remounting filesystem read-only)|"
    r"Buffer I/O error|I/O error, dev|blk_update_request: .*error|segfault at",
    re.IGNORECASE,
)


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
        f"{len(items)} {how}: {few([item.split()[1] for item in items])}" for how, items in counts.items() if items
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
        f"{len(paths)} {kind}: {few(paths)}"
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
        (f"failed: {few(list(failed))}",) if failed else (),
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
    return Finding((f"{running} runs, there is {few(available) or 'no kernel'}",) if wrong else (), running)


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
    Check("partitions", disks.partitions),
    Check("file systems", disks.file_systems),
    Check("swap", disks.swap),
    Check("image disk", disks.image_disk, ("head",)),
    Check("packages", packages),
    Check("disk files", files, ("head",)),
    Check("image files", files, ("compute",)),
)
