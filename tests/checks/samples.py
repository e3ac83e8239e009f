"""A cluster as described, and the facts that its machines would bring if all were well."""

from __future__ import annotations

from dataclasses import replace

from pipeline.checks.facts import Facts
from pipeline.checks.subject import Subject
from pipeline.checks.verify import Expected
from pipeline.description import Cluster, FileSystem, Interface, Machine, Network
from pipeline.guests.debian import GUEST
from pipeline.inventory import Entry
from pipeline.packages.deb.family import DEB

MIB = 1024 * 1024
RELEASE = "6.1.0-40-cloud-amd64"
PACKAGES = {"base-files": "12.4", "libc6": "2.36-9", f"linux-image-{RELEASE}": "6.1.153-1", "munge": "0.5.15-2"}
#: The SIS image, and the head node's disk.
FILES = {
    "": Entry("d", 0o755, mtime=1),
    "etc": Entry("d", 0o755, mtime=1),
    "usr": Entry("d", 0o755, mtime=1),
    "boot": Entry("d", 0o755, mtime=1),
    "bin": Entry("l", 0o777, mtime=1, target="usr/bin"),
    "etc/fstab": Entry("f", 0o644, mtime=1, size=12, md5="a" * 32),
    "etc/hostname": Entry("f", 0o644, mtime=1, size=9, md5="b" * 32),
    "usr/bin/tool": Entry(
        "f", 0o755, mtime=1, size=1234, md5="c" * 32, attributes={"security.capability": "0100000200200000"}
    ),
    f"boot/vmlinuz-{RELEASE}": Entry("f", 0o644, mtime=1, size=77, md5="d" * 32),
}
EXPECTED = Expected({"head": PACKAGES, "compute": PACKAGES}, {"head": FILES, "compute": FILES}, GUEST, DEB)

#: As tree.pl tells it.
TREE = f"""\
d 755 0 0 4096 1.5000000000 8 2 65025:12 /
d 755 0 0 4096 2.5000000000 8 2 65025:12 /etc
f 644 0 0 12 1.5000000000 8 1 65025:12 /etc/fstab
f 644 0 0 9 1.5000000000 8 1 65025:12 /etc/hostname
d 755 0 0 4096 1.5000000000 8 2 65025:12 /usr
l 777 0 0 7 1.5000000000 0 1 65025:12 /bin target=usr/bin
f 755 0 0 1234 1.5000000000 8 1 65025:12 /usr/bin/tool security.capability=0100000200200000
d 755 0 0 4096 1.5000000000 8 2 65025:12 /boot
f 644 0 0 77 1.5000000000 8 1 65025:12 /boot/vmlinuz-{RELEASE}
"""


def cluster() -> Cluster:
    """A head node and two compute nodes."""
    filesystems = (FileSystem("/", 0, "ext4"), FileSystem("swap", 128, "swap"))
    head = Machine(
        "oscarhead",
        "head",
        0,
        512,
        1,
        1024,
        filesystems,
        (
            Interface("eth0", "public", "52:54:00:00:00:01", "10.10.0.2", 24),
            Interface("eth1", "private", "52:54:00:00:01:01", "192.168.50.1", 24),
        ),
    )
    nodes = tuple(
        Machine(
            f"node{number}",
            "compute",
            number,
            384,
            1,
            1024,
            filesystems,
            (Interface("eth0", "private", f"52:54:00:00:01:1{number}", f"192.168.50.1{number}", 24),),
        )
        for number in (1, 2)
    )
    networks = (Network("public", "10.10.0.0/24", "10.10.0.1"), Network("private", "192.168.50.0/24", ""))
    return Cluster(
        "debian12", "debian12", "amd64", "cluster.oscar", "local", networks, head, nodes, ("base", "c3"), "debian"
    )


def sections(machine: Machine) -> dict[str, str]:
    """What the collector would have brought from a machine on which all is well."""
    label = bytearray(512)
    label[446 + 4], label[446 + 16 + 4], label[510:] = 0x83, 0x82, b"\x55\xaa"
    root, swap = 895 * MIB, 128 * MIB
    found = {
        "hostname": f"{machine.name}\n",
        "kernel": f"{RELEASE}\n",
        "hardware": f"1\nMemTotal:         {(machine.memory_mib - 40) * 1024} kB\n",
        "addresses": "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n"
        + "".join(
            f"{number}: {card.name}    inet {card.address}/{card.prefix} brd 192.168.50.255 scope global {card.name}\n"
            for number, card in enumerate(machine.interfaces, 2)
        ),
        "macs": "lo 00:00:00:00:00:00\n" + "".join(f"{card.name} {card.mac}\n" for card in machine.interfaces),
        "blocks": f"vda vda 254:0 {1024 * MIB // 512} 0\n"
        f"vda1 vda 254:1 {root // 512} 1\nvda2 vda 254:2 {swap // 512} 2\n",
        "labels": f"vda {label.hex()}\n",
        "mounts": "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "23 22 0:21 / /proc rw,nosuid - proc proc rw\n",
        "sizes": "Filesystem     1024-blocks   Used Available Capacity Mounted on\n"
        f"/dev/vda1      {root * 95 // 100 // 1024} 300000    500000      38% /\n",
        "swaps": "Filename                                Type            Size    Used    Priority\n"
        f"/dev/vda2                               partition       {swap // 1024 - 4}  0       -2\n",
        "packages": "".join(f"{name} {version} whole\n" for name, version in PACKAGES.items()),
        "services": "",
        "servicelog": "",
        "dmesg": f"[    0.000000] Linux version {RELEASE}\n[    1.500000] EXT4-fs (vda1): mounted filesystem\n",
        "end": "",
    }
    found |= {"tree": TREE, "elapsed": "9 4\n"}
    if machine.role == "head":
        return {
            **found,
            "sums": "".join(f"{entry.md5} /{path}\n" for path, entry in FILES.items() if entry.md5),
            "mounts": found["mounts"] + "30 22 254:16 / /var/lib/systemimager ro - ext4 /dev/vdb ro\n",
        }
    address = machine.interfaces[0].address
    return {
        **found,
        "ping": f"{address}  {machine.name}.cluster.oscar\n64 bytes: ttl=64 time=2.1 ms\nstatus 0\n",
        "status": "0\n",
        "err": "",
        "clock": "1763700000.250000000 1763700000.300000000 1763700000.350000000\n",
        "sums": f"{'e' * 32} /etc/hostname\n",
    }


def all_facts() -> dict[str, Facts]:
    return {machine.name: Facts(machine.name, sections(machine)) for machine in cluster().machines}


def subject(name: str, **changed: str | None) -> Subject:
    """A machine on which all is well but for the sections in `changed`; None takes a section away."""
    facts = all_facts()
    machine = cluster().machine(name)
    given = {**facts[name].sections, **changed}
    kept = {section: text for section, text in given.items() if text is not None}
    return Subject(machine, replace(facts[name], sections=kept), cluster().networks, PACKAGES, FILES, GUEST.known, DEB)


GOOD = {name: sections(cluster().machine(name)) for name in ("oscarhead", "node1")}


def changed(section: str, old: str, new: str, name: str = "node1") -> dict[str, str | None]:
    """That section of a healthy machine with something else in it."""
    text = GOOD[name][section]
    assert old in text
    return {section: text.replace(old, new)}
