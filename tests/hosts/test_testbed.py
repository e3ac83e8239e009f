"""What several runs do with one testbed at once; libvirt's answers are a stand-in's."""

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

from pipeline.description import Host
from pipeline.hosts import testbed as testbeds

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
    made = testbeds.Testbed(HOST, tmp_path / "run", tmp_path / "store")
    made.run_dir.mkdir(parents=True)
    monkeypatch.setattr(made, "alive", lambda: SimpleNamespace(libvirt_uri="test:///default"))
    return made


@contextmanager
def answering(dom0: Dom0) -> Iterator[Any]:
    yield SimpleNamespace(domain=lambda name: dom0)


def test_two_clusters_at_once_get_disks_of_different_names(
    testbed: testbeds.Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_machine_s_disks_are_told_apart_and_go_with_it(
    testbed: testbeds.Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dom0 = Dom0()
    monkeypatch.setattr(testbeds, "connect", lambda uri: answering(dom0))
    (testbed.run_dir / "disks").mkdir(parents=True)
    disk = tmp_path / "disk"
    disk.touch()
    names = ["node1", "node1.data", "node1.more", "node10", "node10.data", "sis"]
    paths = [testbed.attach("one", name, disk, "raw", lasts=name.endswith("data")) for name in names]
    assert len(set(paths)) == len(names)
    assert all(len(path.rpartition("_")[2]) <= 20 for path in paths), "what udev shows of a serial number"
    assert testbed.attach("one", "node1.data", disk, "raw") == paths[1] and len(dom0.disks) == len(names)
    caches = [element.find("driver").attrib["cache"] for element in cast(list[Any], dom0.disks)]
    assert caches == ["unsafe", "writeback", "unsafe", "unsafe", "writeback", "unsafe"]

    def there() -> list[str]:
        return [
            paths[index]
            for index in range(len(names))
            if any(paths[index].endswith(element.findtext("serial", "")) for element in dom0.disks)
        ]

    testbed.detach("one", "node1", "data")
    assert there() == [paths[0], *paths[2:]]
    testbed.detach("one", "node1")
    assert there() == paths[3:]
    testbed.detach("one")
    assert there() == []
