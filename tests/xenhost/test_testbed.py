"""What several runs do with one testbed at once, and what is lost with it; libvirt's answers are a stand-in's."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline import events
from pipeline.description import Host
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.hypervisor import libvirt_xml
from pipeline.hypervisor.libvirt_xml import Metadata
from pipeline.hypervisor.lifecycle import Running, State
from pipeline.step import Plan
from pipeline.xenhost import testbed as testbeds

HOST = Host("lab", "xen", "testbed", "debian12", 3072, 2)


class Dom0:
    """A running machine that disks are handed to; to say which it has takes it a while."""

    def __init__(self) -> None:
        self.disks: list[ET.Element] = []

    def XMLDesc(self) -> str:
        devices = ET.Element("devices")
        devices.extend(self.disks)
        root = ET.Element("domain")
        root.append(devices)
        text = ET.tostring(root, encoding="unicode")
        time.sleep(0.1)
        return text

    def attachDevice(self, text: str) -> None:
        self.disks.append(ET.fromstring(text))

    def detachDevice(self, text: str) -> None:
        serial = ET.fromstring(text).findtext("serial")
        self.disks = [disk for disk in self.disks if disk.findtext("serial") != serial]


@pytest.fixture
def testbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> testbeds.Testbed:
    made = testbeds.Testbed(HOST, Engine(Plan(), tmp_path, tmp_path / "recipes"))
    made.run_dir.mkdir(parents=True)
    monkeypatch.setattr(made, "alive", lambda: SimpleNamespace(libvirt_uri="test:///default"))
    return made


@contextmanager
def answering(dom0: Dom0) -> Iterator[Any]:
    yield SimpleNamespace(domain=lambda name: dom0)


def test_two_clusters_at_once_get_disks_of_different_names(testbed: testbeds.Testbed, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    dom0 = Dom0()
    monkeypatch.setattr(testbeds, "connect", lambda uri: answering(dom0))
    disk = tmp_path / "disk"
    disk.touch()
    (testbed.run_dir / "disks").mkdir(parents=True)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda cluster: testbed.attach(cluster, "head", disk, "raw", readonly=False), ["one", "two"]))
    assert sorted(disk.find("target").attrib["dev"] for disk in cast(list[Any], dom0.disks)) == ["sda", "sdb"]
    assert len(list((testbed.run_dir / "disks").iterdir())) == 2, "where the testbed sees them"
    testbed.detach("one")
    assert len(dom0.disks) == len(list((testbed.run_dir / "disks").iterdir())) == 1


def test_what_it_loads_is_named_without_the_place_of_artifacts(testbed: testbeds.Testbed) -> None:
    """QEMU parts names of modules at spaces and commas, which that place may have."""
    definition = ET.fromstring(libvirt_xml.render(testbed._domain()))
    kernel, _, ramdisk = (definition.findtext("os/initrd") or "").partition(",")
    loaded = [definition.findtext("os/kernel"), kernel.split()[0], ramdisk]
    assert loaded == [f"/run/xen-oscar/disks/{name}" for name in ("xen", "kernel", "initrd.img")]


def machine(name: str, state: State) -> Running:
    return Running(name, state, Metadata("c", name, "compute", "tcg", ()), 384, 1)


def test_saved_memory_on_it_is_not_lost_without_a_word(testbed: testbeds.Testbed,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testbeds, "connect", lambda uri: answering(Dom0()))
    monkeypatch.setattr("pipeline.hypervisor.lifecycle.machines", lambda connection: [
        machine("c-node1", "saved"), machine("c-node2", "running")])
    monkeypatch.setattr(testbed, "_marks", lambda: (("dom0", "sha256:1"),))
    monkeypatch.setattr(testbed, "stop", lambda: pytest.fail("it was ended"))
    with pytest.raises(ClusterError, match="the saved memory of c-node1 would be lost") as caught:
        testbed.start()
    assert "--yes" in caught.value.hint


def test_a_libvirt_that_does_not_answer_makes_it_start_anew(testbed: testbeds.Testbed,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    def deaf(uri: str) -> None:
        raise ClusterError("libvirt did not answer within 60 s")

    told: list[events.Event] = []
    monkeypatch.setattr(testbeds, "connect", deaf)
    monkeypatch.setattr(testbed, "_marks", lambda: (("dom0", "sha256:1"),))
    unsubscribe = events.subscribe(told.append)
    try:
        assert testbed.is_ready() is False
    finally:
        unsubscribe()
    assert events.Reason("xenhost:lab", "libvirt did not answer within 60 s") in told
