"""A cluster's place on a given host: what is asked for and noted there when nodes come and go while it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline import qcow2
from pipeline.description import Host
from pipeline.drivers import domain, xen
from pipeline.hosts import access
from pipeline.hosts.given import GivenPlace
from pipeline.hosts.home import GivenHome
from pipeline.hosts.script import Script, functions
from pipeline.run import Completed
from pipeline.virt.disks import Given
from tests import samples


class Access:
    """Remembers which functions it was asked to call, and what it was asked to bring."""

    uri = "xen+ssh://root@host/system"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.brought: list[str] = []
        self.pieces: list[str] = []

    def run(self, script: str, *, within: float = 0) -> Completed:
        called = script.partition(functions("xen"))[2] or script
        self.calls += [line.removesuffix(" || exit") for line in called.splitlines() if line]
        return Completed(("sh",), 0, "", "")

    def upload(self, source: Path, target: str, progress: Callable[[str], None] = print, *, uploader: str = "") -> None:
        self.brought.append(target)

    def upload_folder(self, source: Path, target: str) -> None:
        self.brought.append(target)
        self.pieces.append((source / "pieces").read_text())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[GivenPlace, GivenHome, Access]:
    (tmp_path / "disks").mkdir()
    there = Access()
    monkeypatch.setattr(access, "of", lambda uri: there)
    cluster = samples.cluster("c")
    made = GivenPlace(Host("lab", "xen", there.uri), cluster, tmp_path, there.uri)
    return made, GivenHome("c", tmp_path, cast(Any, there), Script("c", "xen", "run")), there


def test_nodes_that_come_are_looked_at_noted_and_get_their_disks(
    place: tuple[GivenPlace, GivenHome, Access], tmp_path: Path
) -> None:
    made, home, there = place
    node = dataclasses.replace(samples.machine(2), name="node3", device="/dev/vg0/node3", memory_mib=500)
    blank = tmp_path / "disk.img"
    with blank.open("wb") as file:
        file.truncate(64 << 20)
    made.add(
        home, [node], [Given("node3", blank, blank, "sha256:1"), Given("identity", blank, blank, "", readonly=True)]
    )
    assert there.calls[:6] == [
        "require_programs",
        "require_engine",
        "require_kind pv node3",
        "require_device /dev/vg0/node3 64 node3",
        f"require_memory {500 + xen.DRIVER.besides_mib}",
        f"enlist node3={domain.uuid_of('c', 'node3')}",
    ]
    assert there.calls[6:] == [f"truncate -s {64 << 20} /var/lib/xen-oscar/c/disks/node3"]
    assert there.brought == ["/var/lib/xen-oscar/c/disks/identity"]


def test_what_lies_below_a_disk_is_brought_once_and_its_changes_at_each_start(
    place: tuple[GivenPlace, GivenHome, Access], tmp_path: Path
) -> None:
    made, home, there = place
    artifact = tmp_path / "artifact"
    artifact.mkdir()
    (artifact / "base.img").write_bytes(b"x" * (1 << 20))
    qcow2.write(artifact / "disk.qcow2", 64 << 20, {3: b"y" * qcow2.CLUSTER})
    node = dataclasses.replace(samples.machine(2), name="node3")
    disk = Given("node3", tmp_path / "over.qcow2", artifact / "disk.qcow2", "sha256:1", format="qcow2")
    for _ in range(2):
        made.add(home, [node], [disk])
    folder = "/var/lib/xen-oscar/c/disks/node3"
    assert there.brought == ["/var/lib/xen-oscar/.store/sha256-1", f"{folder}.changes"] * 2
    assert there.pieces[-1].split()[1:] == ["3", "1"]
    assert there.calls[-3:] == [
        f"cp --sparse=always --reflink=auto /var/lib/xen-oscar/.store/sha256-1 {folder}",
        "taken sha256-1",
        f"change {folder} {folder}.changes",
    ]


def test_what_counts_on_xen_alone_is_asked_of_no_other_host(
    place: tuple[GivenPlace, GivenHome, Access], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = place
    node = dataclasses.replace(samples.machine(2), device="/dev/vg0/node2")
    assert any(call[0] == "require_device" for call in made._requirements([node]))
    monkeypatch.setattr(made, "_host", Host("lab", "qemu", "qemu:///system"))
    assert not any(call[0] == "require_device" for call in made._requirements([node]))


def test_of_nodes_that_go_nothing_stays(place: tuple[GivenPlace, GivenHome, Access], tmp_path: Path) -> None:
    made, home, there = place
    (tmp_path / "disks/node2.qcow2").touch()
    made.remove(home, ["node2", "node1"])
    assert there.calls == ["remove node2 node1"]
    assert list((tmp_path / "disks").iterdir()) == []
