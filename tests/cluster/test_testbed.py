"""When a testbed is started anew, and what is lost with it; libvirt's answers are a stand-in's."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import events
from pipeline.cluster import survey
from pipeline.cluster import testbed as testbeds
from pipeline.description import Host
from pipeline.drivers.libvirt_xml import Metadata
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.step import Plan
from pipeline.virt.power import Running, State

HOST = Host("lab", "xen", "testbed", "debian12", 3072, 2, "debian")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> testbeds.TestbedHost:
    made = testbeds.TestbedHost(HOST, Engine(Plan(), tmp_path, tmp_path / "recipes"))
    made.testbed.run_dir.mkdir(parents=True)
    alive = SimpleNamespace(libvirt_uri="test:///default")
    monkeypatch.setattr(made.testbed, "alive", lambda: alive)
    monkeypatch.setattr(made.runner.place, "find", lambda: alive)
    return made


def test_what_it_loads_is_named_without_the_place_of_artifacts(host: testbeds.TestbedHost) -> None:
    """QEMU parts names of modules at spaces and commas, which that place may have."""
    definition = ET.fromstring(host.parts.definition("dom0", "run"))
    kernel, _, ramdisk = (definition.findtext("os/initrd") or "").partition(",")
    loaded = [definition.findtext("os/kernel"), kernel.split()[0], ramdisk]
    assert loaded == [f"/run/xen-oscar/disks/{name}" for name in ("xen", "kernel", "initrd.img")]


def machine(name: str, state: State) -> Running:
    return Running(name, state, Metadata("c", name, "compute", "tcg", ()), 384, 384, 1)


def test_saved_memory_on_it_is_not_lost_without_a_word(
    host: testbeds.TestbedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testbeds, "connect", lambda uri: contextlib.nullcontext())
    monkeypatch.setattr(
        "pipeline.virt.power.machines", lambda connection: [machine("c-node1", "saved"), machine("c-node2", "running")]
    )
    monkeypatch.setattr(host.runner, "is_built", lambda: True)
    monkeypatch.setattr(host.runner, "stop", lambda: pytest.fail("it was ended"))
    with pytest.raises(ClusterError, match="the saved memory of c-node1 would be lost") as caught:
        host.start()
    assert "--yes" in caught.value.hint


def test_a_libvirt_that_does_not_answer_makes_it_start_anew(
    host: testbeds.TestbedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deaf(uri: str) -> None:
        raise ClusterError("libvirt did not answer within 60 s")

    told: list[events.Event] = []
    monkeypatch.setattr(survey, "connect", deaf)
    monkeypatch.setattr(host.runner, "is_built", lambda: True)
    unsubscribe = events.subscribe(told.append)
    try:
        assert host.is_ready() is False
    finally:
        unsubscribe()
    assert events.Reason("host:lab", "libvirt did not answer within 60 s") in told
