"""The table `[xen]` of a cluster: what it gives to machines, and what it may not say."""

from __future__ import annotations

import re

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests.recipes import load
from tests.manifests.conftest import Writer


def told(recipes: Writer, text: str) -> list[str]:
    """The mistakes of a cluster with two nodes, without the file's name."""
    folder = recipes({"clusters/c.toml": 'distro = "debian12"\n' + text})
    with pytest.raises(ManifestError) as caught:
        load(folder).describe("c")
    return [line.removeprefix("clusters/c.toml:") for line in caught.value.message.splitlines()]


def test_machines_are_as_the_table_says_and_single_ones_as_theirs(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'distro = "debian12"\n',
            "clusters/b.toml": 'extends = "a"\n[xen]\ntype = "pvh"\nboot = "kernel"\n'
            '[xen.machines.node1]\ntype = "pv"\n'
            'pci = ["03:00.0", "0001:0A:1f.7"]\n[xen.machines.node2]\nboot = "pygrub"\n'
            'device = "/dev/vg0/node2"\n',
            "clusters/c.toml": 'extends = "b"\n[xen.machines.node1]\ntype = "hvm"\nboot = "pygrub"\n',
        }
    )
    found = {
        name: [
            (one.name, one.virtualization, one.boot, one.device, one.pci)
            for one in load(folder).describe(name).machines
        ]
        for name in "abc"
    }
    assert found["a"] == [(name, "pv", "pygrub", "", ()) for name in ("head", "node1", "node2")]
    pci = ("0000:03:00.0", "0001:0a:1f.7")
    assert found["b"] == [
        ("head", "pvh", "kernel", "", ()),
        ("node1", "pv", "kernel", "", pci),
        ("node2", "pvh", "pygrub", "/dev/vg0/node2", ()),
    ]
    assert found["c"][1] == ("node1", "hvm", "pygrub", "", pci)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('xen.type = "pvm"', r'2: xen\.type: "pvm" is not known; expected "pv" or "pvh" or "hvm"; did you mean "pv"\?'),
        ('xen.boot = "pygurb"', r'2: xen\.boot: "pygurb" is not known; .*did you mean "pygrub"\?'),
        (
            'xen.tpye = "pv"',
            r'2: xen\.tpye: unknown field; expected one of boot, machines, type; did you mean "type"\?',
        ),
        ('xen = { type = "hvm", boot = "kernel" }', r'2: xen\.boot: a "hvm" machine boots from its disk'),
        (
            '[xen]\nboot = "kernel"\n[xen.machines.node1]\ntype = "hvm"',
            r'5: xen\.machines\.node1\.type: a "hvm" machine boots from its disk .*expected boot = "pygrub" or type',
        ),
        ('[xen]\ntype = "hvm"\n[xen.machines.node1]\nboot = "kernel"', r"5: xen\.machines\.node1\.boot: a "),
        (
            '[xen.machines.node3]\nboot = "kernel"',
            r'2: xen\.machines\.node3: there is no machine "node3"; expected head or node1 to node2$',
        ),
        ('[xen.machines.nodel]\nboot = "kernel"', r'there is no machine "nodel"; .*; did you mean "node2"\?'),
        ("compute.count = 1\n[xen.machines.hed]", r"expected head or node1; did you mean \"head\"\?"),
        (
            '[xen.machines.node1]\nbot = "kernel"',
            r'3: xen\.machines\.node1\.bot: unknown field; expected one of boot, device, pci, type; .* "boot"\?',
        ),
        ('[xen.machines]\nnode1 = "pv"', r'3: xen\.machines\.node1: "pv" is text; expected a table'),
        (
            'xen.machines.node1.device = "vg0/node1"',
            r'xen\.machines\.node1\.device: "vg0/node1" is no block device; .* did you mean "/dev/vg0/node1"\?',
        ),
        ('xen.machines.node1.device = "/dev/../etc/passwd"', "is no block device"),
        ('xen.machines.node1.device = "/dev//sdb"', "is no block device"),
        ('xen.machines.node1.pci = "03:00.0"', r"pci: \"03:00.0\" is text; expected a list"),
        (
            'xen.machines.node1.pci = ["3:0.0"]',
            r'xen\.machines\.node1\.pci\[0\]: "3:0.0" is no PCI device; .*"03:00\.0"',
        ),
        ('xen.machines.node1.pci = ["03:2f.0"]', "is no PCI device"),
        (
            '[xen.machines.node1]\ntype = "pvh"\npci = ["03:00.0"]',
            r'4: xen\.machines\.node1\.pci: Xen gives no PCI devices to "pvh"; expected type = "pv" or "hvm"',
        ),
        (
            '[xen.machines]\nnode1.device = "/dev/sdb"\nnode2.device = "/dev/sdb"',
            r'4: xen\.machines\.node2\.device: "/dev/sdb" is given to node1 too; expected a free one',
        ),
        (
            '[xen.machines]\nnode1.pci = ["03:00.0"]\nnode2.pci = ["04:00.0", "0000:03:00.0"]',
            r'4: xen\.machines\.node2\.pci\[1\]: "0000:03:00.0" is given to node1 too',
        ),
        ('[xen.machines]\nnode1.pci = ["03:00.0", "03:00.0"]', r"node1\.pci\[1\]: .* is given to node1 too"),
        ('head.name = "sis"', r'head\.name: "sis" is the name of a disk of the head node'),
    ],
)
def test_mistakes(recipes: Writer, text: str, wanted: str) -> None:
    found = told(recipes, text)
    assert len(found) == 1 and re.search(wanted, found[0]), found


def test_a_wrong_name_in_a_large_cluster_is_told_at_once(recipes: Writer) -> None:
    text = 'compute.count = 60000\nnetworks.private.cidr = "10.0.0.0/14"\nxen.machines.nod1.boot = "kernel"'
    assert told(recipes, text + '\nnetworks.public.cidr = "192.168.0.0/24"') == [
        '4: xen.machines.nod1: there is no machine "nod1"; expected head or node1 to node60000; did you mean "node1"?'
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('kind = "qemu"\nconnection = "qemu+ssh://root@machine/system"', ""),
        ('kind = "qemu"\nconnection = "qemu:///system"', ""),
        ('kind = "xen"\nconnection = "xen+ssh://machine/system"', ""),
        ('kind = "qemu"\nconnection = "xen:///system"', '"xen:///system" is not for qemu; expected "private" or a'),
        ('kind = "xen"\nconnection = "private"', '"private" is not for xen; expected "testbed" or a xen URI'),
        (
            'kind = "qemu"\nconnection = "qemu+ssh:///system"',
            "names no machine; expected qemu+ssh://root@MACHINE/system",
        ),
        ('kind = "qemu"\nconnection = "qemu+tls://machine/system"', '"qemu+tls" cannot be used; expected qemu:/'),
        ('kind = "qemu"\nconnection = "testbde"', 'did you mean "testbed"?'),
    ],
)
def test_how_a_host_is_reached(recipes: Writer, text: str, wanted: str) -> None:
    folder = recipes({"hosts/x.toml": text})
    if wanted:
        with pytest.raises(ManifestError, match=re.escape(wanted)):
            load(folder).host("x")
    else:
        assert load(folder).host("x").connection


def test_the_distribution_of_a_testbed_must_exist(recipes: Writer) -> None:
    folder = recipes(
        {"hosts/x.toml": 'kind = "xen"\nconnection = "testbed"\ndistro = "debain12"\nmemory = "4G"\ncpus = 2\n'}
    )
    with pytest.raises(
        ManifestError,
        match=r'hosts/x\.toml:3: distro: "debain12" is not in distros; expected one of '
        r'debian12; did you mean "debian12"\?',
    ):
        load(folder).host("x")
