"""What `doit vm list` tells of machines and of their disks."""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.columns import Table
from pipeline.verbs.list import Listed
from tests.verbs.lab import Lab, lab, sample


def test_what_a_machine_has(small: Lab) -> None:
    small.raw("node2").suspend()
    small.raw("node1").setMemory(128 * 1024)
    told = small.vm("list", "one")
    assert [(row.machine, row.state, row.memory_mib, row.cpus) for row in told] == [
        ("head", "running", 384, 2),
        ("node1", "running", 128, 2),
        ("node2", "paused", 384, 2),
    ]
    assert told[0].macs == ("52:54:00:00:01:00", "52:54:00:00:00:00")  # all of its cards in one row, not in blank ones
    assert told[1].macs == ("52:54:00:00:00:01",)
    assert {(row.host, row.hypervisor) for row in told} == {("local", "qemu")}


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    rows = [
        Listed("a-long-named-cluster", "node1", "off", "qemu", "local", 512, 1, ("m",), "os", ""),
        Listed("b", "a-long-name", "paused", "xen", "far", 16384, 12, ("m", "n"), "install", "why"),
    ]
    assert Table(tuple(rows)).text().splitlines() == [
        "a-long-named-cluster  node1        off     qemu/local  512 MiB    1 cpu   m",
        "b                     a-long-name  paused  xen/far     16384 MiB  12 cpu  m n  (why; to be installed anew)",
    ]


def test_disks(small: Lab, tmp_path: Path) -> None:
    told = small.vm("list", "one", "--disks")
    found = [(row.machine, row.disk, row.kind, row.format, row.overlay, row.kept) for row in told]
    assert found == [
        ("head", "root", "system", "qcow2", True, False),
        ("head", "sis", "image", "raw", False, False),
        ("head", "identity", "identity", "raw", False, False),
        ("node1", "root", "system", "qcow2", True, False),
        ("node1", "scratch", "data", "raw", False, False),
        ("node1", "home", "data", "raw", False, True),
        ("node2", "root", "system", "qcow2", True, False),
    ]
    assert told[5].file == str(tmp_path / "one/disks/node1.home.img"), "as one sees it here"
    assert min(row.size_mib for row in told) > 1_000_000, "what the driver says of each"
    assert told[5].cells()[-1] == "data, kept"


def test_a_hundred_machines_take_less_than_a_second(tmp_path: Path) -> None:
    with lab(sample("many", 99), tmp_path) as made:
        for words in (("list", "many"), ("list", "many", "--disks")):
            begin = time.process_time()
            told = made.vm(*words)
            assert time.process_time() - begin < 1
            assert len({row.machine for row in told}) == 100
