"""What a machine does when it starts next: it is installed anew where somebody wants that, and is what its recipe says
by then."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import pytest

from pipeline.cluster.composition import Composition
from pipeline.drivers import domain, libvirt_xml
from pipeline.engine import Engine
from pipeline.verbs import actions
from pipeline.virt import power
from tests.cluster.test_lifecycle import NAME, PHASES, Stage, all_phases, stage  # noqa: F401  (a fixture)


def test_a_node_is_installed_anew_once_it_is_off(stage: Stage) -> None:  # noqa: F811
    notes = stage.life._notes
    notes.add("again/node1")
    assert all_phases(stage) == [], "it runs"
    stage.raw("node1").destroy()
    assert all_phases(stage) == ["node1 to be installed", "node1 to be started"]
    notes.add("begun/node1")  # as since its first installation
    for phase in PHASES[:2]:
        stage.life.reach(phase)
    assert stage.started == [("install", "node1")]
    assert (stage.told, stage.place.added) == (["forget node1"], ["node1"]), "it finds an empty disk"


def test_one_that_would_be_restarted_is_installed(stage: Stage) -> None:  # noqa: F811
    stage.life._notes.add("again/node1")
    stage.definitions["node1"] = "sha256:2"
    assert all_phases(stage)[0] == "node1 to be installed"


def test_the_note_goes_when_the_installation_begins(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    from pipeline.cluster.course import Seen
    from pipeline.cluster.runner import Runner

    monkeypatch.setattr(power, "start", lambda *_args, **_more: None)
    monkeypatch.setattr(Composition, "definition", lambda _self, name, purpose: f"{name} {purpose}")
    monkeypatch.setattr(libvirt_xml, "for_start", lambda definition, accelerator, marks: definition)
    notes = stage.life._notes
    notes.add("again/node1")
    Runner._start(stage.life.runner, stage.connection, Seen("node1", False, "off"), "install")
    assert not notes.has("again/node1") and not notes.has("installed/node1") and notes.has("begun/node1")


@pytest.fixture
def started(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: F811
    """How machines are started from here on; all that they are made of is there, and node1's definition is built."""
    found: list[str] = []

    def note(_connection: object, what: str, **_more: object) -> None:
        found.append(what)

    monkeypatch.setattr(power, "start", note)
    monkeypatch.setattr(power, "start_again", note)
    monkeypatch.setattr(Engine, "build", lambda _self, task: found.append(f"built {task}"))
    monkeypatch.setattr(Composition, "marks", lambda _self, name: stage.marks(name))
    monkeypatch.setattr(Composition, "definition", lambda _self, name, purpose: f"{name} {purpose}")
    monkeypatch.setattr(libvirt_xml, "for_start", lambda definition, accelerator, marks: f"{definition} {accelerator}")
    stage.raw("node1").destroy()
    return found


def described(stage: Stage, **values: Any) -> None:  # noqa: F811
    """What runs was booted when the recipe said other things of node1 than today."""
    cluster = stage.life.cluster
    before = tuple(dataclasses.replace(one, **values) if one.name == "node1" else one for one in cluster.nodes)
    stage.life.cluster = dataclasses.replace(cluster, nodes=before)


def start(stage: Stage) -> None:  # noqa: F811
    args = argparse.Namespace(no_wait=True)
    assert list(stage.life.machines().act(actions()["start"], ["node1"], args)) == [("node1", "started")]


def test_a_machine_starts_as_it_is_defined(stage: Stage, started: list[str]) -> None:  # noqa: F811
    start(stage)
    assert started == [domain.name_of(NAME, "node1")]


def test_with_memory_and_processors_of_todays_recipe(stage: Stage, started: list[str]) -> None:  # noqa: F811
    described(stage, memory_mib=999, cpus=7)
    assert stage.life.machines().definitions()["node1"] == ("node1 run tcg", True), "which is what report tells"
    started.clear()
    start(stage)
    assert started == [f"built definition:{NAME}/node1", "node1 run tcg"]


@pytest.mark.parametrize("other", ["disk", "image", "copy"])
def test_as_it_is_defined_where_more_than_that_is_another(stage: Stage, started: list[str], other: str) -> None:  # noqa: F811
    """Its disks are made when its cluster goes on, and not here."""
    described(stage, memory_mib=999, **({"disk_mib": 1} if other == "disk" else {}))
    if other == "image":
        stage.digest = "sha256:2"
    if other == "copy":
        stage.life.copy_of = "debian13"
    start(stage)
    assert started[-1] == domain.name_of(NAME, "node1")
