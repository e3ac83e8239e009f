"""What a cluster manifest says, and what it may not say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from pipeline.builders import layout as disk_layout
from pipeline.description import DataDisk, Machine
from pipeline.errors import ManifestError
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.recipes import load
from tests.manifests.conftest import Writer


def cluster(recipes: Writer, text: str) -> Cluster:
    return load(recipes({"clusters/c.toml": 'distro = "debian12"\n' + text})).cluster("c")


def test_five_lines_are_enough(recipes: Writer) -> None:
    found = cluster(recipes, 'opkgs = ["slurm"]\n[compute]\ncount = 4\n')
    assert (found.head.name, found.head.memory, found.head.disk_mib) == ("head", 512, 3072 + 256 + 1)
    assert (found.compute.prefix, found.compute.count, found.compute.memory) == ("node", 4, 384)
    assert found.compute.disk_mib == 2048 + 256 + 1
    assert [(item.mount, item.size) for item in found.compute.filesystems] == [("/", 2048), ("swap", 256)]
    assert found.opkgs == ("base", "sis", "munge", "slurm")


def test_a_file_system_may_fill_the_disk(recipes: Writer) -> None:
    text = 'head = { disk = "8G", filesystems = [{ mount = "/", size = "2G" }, { mount = "/home", size = "fill" }] }'
    head = cluster(recipes, text).head
    assert head.disk_mib == 8192
    assert [(item.mount, item.size) for item in head.filesystems] == [("/", 2048), ("/home", 0)]


def test_every_partition_table_has_its_room(recipes: Writer) -> None:
    for count in range(1, 15):
        more = ", ".join(f"{{ mount = '/data{one}', size = '20M' }}" for one in range(1, count))
        found = load(recipes({"clusters/c.toml": 'distro = "debian12"\n' + layout(more)})).describe("c")
        assert disk_layout.of(found.nodes[0]).partitions[-1].start < found.nodes[0].disk_mib * disk_layout.MIB


def test_a_machine_has_the_disks_for_data_of_its_kind_and_its_own(recipes: Writer) -> None:
    text = """distro = "debian12"
    [compute.disks.data]
    size = "1G"
    [compute.disks.scratch]
    size = "64M"
    [machines.node2.disks]
    data = { size = "2G", kind = "kept" }
    more = { size = "16M" }
    """
    found = load(recipes({"clusters/c.toml": text})).describe("c")
    assert found.head.disks == ()
    assert found.nodes[0].disks == (DataDisk("data", 1024, "throwaway"), DataDisk("scratch", 64, "throwaway"))
    data, scratch, more = found.nodes[1].disks
    assert (data, scratch, more.name) == (DataDisk("data", 2048, "kept"), found.nodes[0].disks[1], "more")
    assert found.nodes[1].letters == {"root": "a", "data": "b", "scratch": "c", "more": "d"}
    assert found.head.letters == {"root": "a", "sis": "b", "identity": "c"}
    assert Machine.from_json(json.loads(json.dumps(found.nodes[1].to_json()))) == found.nodes[1]


MEMBERSHIPS = """\
[memberships.login]
packages = ["vim"]
[memberships.nas]
count = 2
prefix = "store"
memory = "512M"
first_node = "10.77.1.100"
disks.data = { size = "2G", kind = "kept" }
"""


def test_memberships_have_names_addresses_and_macs_that_stay(recipes: Writer) -> None:
    text = 'distro = "debian12"\n'
    small = load(recipes({"clusters/c.toml": text + MEMBERSHIPS})).describe("c")
    large = load(recipes({"clusters/c.toml": f"{text}compute.count = 40\n{MEMBERSHIPS}"})).describe("c")
    assert [machine.name for machine in small.machines] == ["head", "node1", "node2", "login1", "store1", "store2"]
    others = [machine for machine in small.nodes if machine.membership != "compute"]
    assert [(one.membership, one.index, one.role, one.memory_mib) for one in others] == [
        ("login", 1, "compute", 384),
        ("nas", 1, "compute", 512),
        ("nas", 2, "compute", 512),
    ]
    cards = [one.interfaces[0] for one in others]
    assert [card.address for card in cards] == ["10.77.1.224", "10.77.1.100", "10.77.1.101"]
    assert [card.mac[-5:] for card in cards] == ["80:e0", "80:64", "80:65"]
    assert [machine for machine in large.nodes if machine.membership != "compute"] == others
    assert [disk.name for disk in others[1].disks] == ["data"]
    assert {kind: len(each) for kind, each in large.members.items()} == {"compute": 40, "login": 1, "nas": 2}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("head.count = 1", r'memberships\.head: "head" is always there; expected another name, or \[head\]'),
        ("Login.count = 1", r'memberships\.Login: "Login" is no name; expected a-z'),
        (
            "login.prefix = 'node'",
            r'memberships\.login\.prefix: "node1" is one of compute too; expected another prefix',
        ),
        ("a.prefix = 'x'\nb.prefix = 'x'", r'memberships\.b\.prefix: "x1" is one of a too'),
        (
            "login.first_node = '10.77.2.1'",
            r"login\.first_node: 1 of them from 10\.77\.2\.1 on are not in 10\.77\.1\.0/24",
        ),
        ("login.first_node = '10.77.1.2'", r"login\.first_node: .* have addresses of the compute nodes"),
        ("login.count = 31", r"login\.first_node: 31 of them from 10\.77\.1\.224 on have addresses of the head node"),
        ("a.count = 1\nb.count = 33", r"b\.first_node: 33 of them from 10\.77\.1\.192 on have addresses of a"),
        ("login.memory = '1M'", r"login\.memory: 1 MiB is too little"),
        ("login.packages = ['-x']", r"login\.packages\[0\]"),
    ],
)
def test_mistakes_in_memberships(recipes: Writer, text: str, wanted: str) -> None:
    with pytest.raises(ManifestError) as caught:
        cluster(recipes, f"[memberships]\n{text}\n")
    assert re.search(wanted, caught.value.message, re.MULTILINE), caught.value.message


def test_machines_of_memberships_may_have_something_special(recipes: Writer) -> None:
    special = "[machines.login1]\nmemory = '1G'\n[xen.machines.store2]\ntype = 'pvh'\n"
    text = f'distro = "debian12"\n{special}{MEMBERSHIPS}'
    found = load(recipes({"clusters/c.toml": text})).describe("c")
    assert (found.machine("login1").memory_mib, found.machine("store2").virtualization) == (1024, "pvh")
    with pytest.raises(ManifestError, match='no machine "store3"; expected head, node1 to node2, login1 or store1 to'):
        load(recipes({"clusters/c.toml": text.replace("machines.store2", "machines.store3")})).cluster("c")


def disks(side: str, count: int) -> str:
    return "\n".join(f'{side}.disks.d{number}.size = "16M"' for number in range(count))


def layout(*entries: str) -> str:
    return "compute.filesystems = [{ mount = '/', size = '1G' }, " + ", ".join(entries) + "]"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('head.memory = "256M"', r':2: head\.memory: 256 MiB is too little: .*expected at least "320M"$'),
        ("head.memory = 512", r'head\.memory: 512 is not a size; expected .* "2G"; did you mean "512M"\?'),
        ('head.memory = "1.5 gb"', r'did you mean "1536M"\?'),
        ('head.memory = "2048MiB"', r'did you mean "2G"\?'),
        ('head.memory = "999999999T"', "out of range"),
        ('head.memory = "0M"', "out of range"),
        ('compute.disks.root.size = "1G"', r'compute\.disks\.root: "root" is the name of a disk that machines have'),
        ('head.disks."My Disk".size = "1G"', r"head\.disks\.\"My Disk\": \"My Disk\" is no name of a disk"),
        ("head.disks." + "a" * 21 + '.size = "1G"', "inner hyphens, 20 at most"),
        ('head.disks.data = "1G"', r'head\.disks\.data: "1G" is text; expected a table'),
        ('head.disks.data.kind = "kept"', r"head\.disks\.data\.size: missing"),
        ('head.disks.data = { size = "1G", kind = "keep" }', r'data\.kind: "keep" is not .*did you mean "kept"\?'),
        ('head.disks.data.size = "fill"', r'data\.size: "fill" is not a size'),
        ('machines.node1.disks.sis.size = "1G"', r'machines\.node1\.disks\.sis: "sis" is the name of a disk'),
        (disks("compute", 13), "13 disks; expected at most 12"),
        (f'{disks("compute", 12)}\nmachines.node1.disks.one.size = "1G"', r"node1\.disks: 13 disks in all; expected"),
        ("head.cpus = 0", "head.cpus: 0 is out of range; expected at least 1"),
        ("head.cpus = 129", "expected at most 128"),
        ('head.name = "My_Head"', r'"My_Head" is not a host name; .*did you mean "my-head"\?'),
        ('head.name = "node12"', r'head\.name: "node12" is a compute node\'s name too'),
        ('head.name = "localhost"', "means each machine itself"),
        ('head.name = "' + "a" * 64 + '"', "63 at most"),
        ('compute.prefix = "' + "a" * 63 + '"', "compute.prefix: too long"),
        ('domain = "oscar..internal"', "is not a domain name"),
        ("compute.count = 0", "expected at least 1"),
        ("compute.count = 254", r"compute\.count: 254 nodes don't fit: 10\.77\.1\.0/24 has room for 253 from"),
        ('networks.private.head = "10.77.1.1"', r'first_node: "10\.77\.1\.1" is the address of head too'),
        ('networks.private = { host = "10.77.1.100" }\ncompute.count = 100', "has room for 99 from"),
        (
            'networks.private.first_node = "10.77.2.1"',
            "is not in the subnet 10.77.1.0/24; expected one from 10.77.1.1 to 10.77.1.254",
        ),
        ('networks.private.head = "10.77.1.255"', "is not in the subnet"),
        ('networks.private.cidr = "10.77.1.5/24"', r'did you mean "10\.77\.1\.0/24"\?'),
        ('networks.private.cidr = "10.77.1.0/31"', "expected a length from /8 to /30"),
        ('networks.private.cidr = "127.0.0.0/8"', "no subnet that machines can use"),
        ('networks.private.cidr = "fe80::/64"', "is not an IPv4 subnet"),
        ('networks.private.cidr = "10.77.0.0/16"', r"networks\.private\.cidr: .*overlaps the public 10\.77\.0\.0/24"),
        ('networks.public.head = "10.77.0"', "is not an IPv4 address"),
        ('networks.private.mac_prefix = "01:16:3e"', "multicast"),
        ('networks.private.mac_prefix = "fe:16:3e"', "reserved by hypervisors"),
        ('networks.private.mac_prefix = "00163e"', "is not a MAC prefix"),
        ("compute.filesystems = []", "compute.filesystems: no root file system"),
        (layout("{ mount = '/', size = '1G' }"), r'compute\.filesystems\[1\]\.mount: "/" is there twice'),
        (layout("{ mount = 'home', size = '1G' }"), r'did you mean "/home"\?'),
        (layout("{ mount = '/a/../b', size = '1G' }"), "not a plain absolute path"),
        (layout("{ mount = '/home/', size = '1G' }"), "not a plain absolute path"),
        (layout("{ mount = '/usr', size = '1G' }"), "a machine needs it to start"),
        (layout("{ mount = '/home', size = '1M' }"), 'expected at least "16M"'),
        (layout("{ mount = '/home', size = 'fill' }"), 'needs to know the disk; expected disk = "..." beside it'),
        (
            "compute.disk = '9G'\n" + layout("{ mount = '/a', size = 'fill' }", "{ mount = '/b', size = 'fill' }"),
            r"filesystems\[2\]\.size: .*at most one",
        ),
        ("compute.disk = '1G'", r'compute\.disk: 1024 MiB is too small .* expected at least "2305M"'),
        (layout(*(f"{{ mount = '/{one}', size = '1G' }}" for one in range(14))), "15 partitions; expected at most 14"),
        (layout("{ mount = '/a', size = '2047G' }"), "larger than a DOS partition table can say"),
        ('opkgs = ["slurm", "munge", "slurm"]', r'opkgs\[2\]: "slurm" is there twice'),
    ],
)
def test_mistakes(recipes: Writer, text: str, wanted: str) -> None:
    with pytest.raises(ManifestError) as caught:
        cluster(recipes, text)
    assert re.search(wanted, caught.value.message, re.MULTILINE), caught.value.message


def test_packages_under_test_are_found_from_their_manifest(recipes: Writer) -> None:
    folder = recipes(
        {
            "debs/slurmd_1_amd64.deb": "!<arch>\nand so on",
            "debs/other.deb": "text",
            "clusters/a.toml": 'distro = "debian12"\npackages = { compute = ["../debs/slurmd_1_amd64.deb"] }',
            "clusters/b.toml": 'extends = "a"\n',
            "clusters/c.toml": 'extends = "a"\n[packages]\n'
            'head = ["../debs/slurmd_2_amd64.deb", "../debs/other.deb", "x.tar"]\n',
        }
    )
    found = load(folder).cluster("b").packages
    assert found.compute == (str(Path("debs/slurmd_1_amd64.deb").absolute()),)
    with pytest.raises(ManifestError) as caught:
        load(folder).cluster("c")
    told = caught.value.message.splitlines()
    assert [line.split(": ")[:2] for line in told] == [["clusters/c.toml:3", f"packages.head[{n}]"] for n in range(3)]
    assert told[0].endswith(
        '"debs/slurmd_2_amd64.deb" cannot be read: No such file or directory; did you mean "slurmd_1_amd64.deb"?'
    )
    assert told[1].endswith("is no Debian package, whatever its name says")
    assert told[2].endswith('expected a file whose name ends in ".deb" or ".rpm"')


def test_packages_under_test_have_names_of_their_own(recipes: Writer) -> None:
    folder = recipes(
        {
            **{f"{place}/tool_1_amd64.deb": "!<arch>\nand so on" for place in ("old", "new")},
            "clusters/c.toml": 'distro = "debian12"\n[packages]\n'
            'head = ["../old/tool_1_amd64.deb", "../current.deb", "../old/tool_1_amd64.deb"]\n'
            'compute = ["../new/tool_1_amd64.deb"]\n',
        }
    )
    Path("current.deb").symlink_to("new/tool_1_amd64.deb")  # a link stands for what it points at
    with pytest.raises(ManifestError) as caught:
        load(folder).cluster("c")
    told = [line.partition(": packages.")[2] for line in caught.value.message.splitlines()]
    assert told == [
        'head[1]: "current.deb" has the file name of "old/tool_1_amd64.deb"; expected different ones',
        'head[2]: "old/tool_1_amd64.deb" has the file name of "old/tool_1_amd64.deb"; expected different ones',
    ]
