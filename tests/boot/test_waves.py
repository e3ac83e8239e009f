"""Twelve machines, for real but tiny: installed and started some at a time, each when another has made room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.cluster.bringing import Hands, bring
from pipeline.cluster.course import Act, Phase
from pipeline.description import Cluster
from pipeline.drivers import domain
from pipeline.hosts import memory
from pipeline.virt import pace, power
from pipeline.virt.pace import Capacity
from pipeline.virt.watch import watch
from tests.boot.test_namespace import (  # noqa: F401  (fixtures)
    MEMORY_MIB,
    Lab,
    cache,
    connection,
    lab,
    ramdisk,
    running,
)
from tests.samples import cluster, machine

pytestmark = pytest.mark.boot

NODES = [f"node{number}" for number in range(1, 13)]


def twelve() -> Cluster:
    return replace(
        cluster("one", memory_mib=MEMORY_MIB),
        nodes=tuple(machine(number, memory_mib=MEMORY_MIB) for number in range(1, 13)),
    )


def test_twelve_nodes_in_waves(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert memory.require(twelve().machines, "tcg") == ""
    monkeypatch.setattr("tests.boot.test_namespace.cluster", lambda name, memory_mib: twelve())
    capacity = Capacity(2, "tcg")
    most = 0

    def start(name: str, act: str) -> None:
        nonlocal most
        lab.start(name, act)
        running_now = [item for item in power.machines(lab.connection) if item.state == "running"]
        most = max(most, len(running_now))

    def go(phase: Phase, act: Act, what: str) -> list[str]:
        hands = Hands(lambda name: start(name, what), lambda name: None, lambda name: None)
        with watch(lab.running, lab.connection) as watching:
            acts: dict[str, Act] = dict.fromkeys(NODES, act)
            return [reached.machine for reached in bring(watching, phase, acts, set(), hands, capacity)]

    assert sorted(go("install", "install", "install")) == sorted(NODES)
    assert most == pace.at_once("install", capacity) == 3
    assert {item.state for item in power.machines(lab.connection)} == {"off"}
    assert sorted(go("start", "start", "ready")) == sorted(NODES)
    assert {item.state for item in power.machines(lab.connection)} == {"running"}

    power.pause(lab.connection, domain.name_of("one", "node3"))
    power.destroy(lab.connection, [domain.name_of("one", "node7")])
    hands = Hands(
        lambda name: lab.start(name, "ready"),
        lambda name: power.resume(lab.connection, domain.name_of("one", name)),
        lambda name: None,
    )
    with watch(lab.running, lab.connection) as watching:
        back = list(bring(watching, "start", {"node3": "resume", "node7": "start"}, {"node3"}, hands, capacity))
    assert [reached.machine for reached in back] == ["node7"]
    assert {item.state for item in power.machines(lab.connection)} == {"running"}
