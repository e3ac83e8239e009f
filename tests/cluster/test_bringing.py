"""Machines are brought up in waves, or back: with a real watch over files and events, and machines that are none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pipeline.cluster.bringing import Hands, bring
from pipeline.cluster.course import Act
from pipeline.errors import ClusterError
from pipeline.virt import pace
from pipeline.virt.connection import Event
from pipeline.virt.pace import Capacity
from pipeline.virt.watch import Progress
from tests.virt.test_watch import POWERED_OFF, Stage, stage  # noqa: F401  (a fixture)

NODES = [f"node{number}" for number in range(1, 13)]
TWO = Capacity(2, "tcg")


class Machines:
    """Twelve nodes that do what one asks of them: `begun` in that order, and how many were at it at most."""

    def __init__(self, stage: Stage) -> None:  # noqa: F811
        self.stage = stage
        self.begun: list[str] = []
        self.ended: set[str] = set()
        self.most = 0
        self.late: set[str] = set()
        self.done: list[str] = []
        self.on_progress(self.goes_on)

    def on_progress(self, act: Callable[[Progress], object]) -> None:
        """What happens when a machine says what it does."""

        def heard(progress: Progress) -> None:
            if progress.step != "started":
                act(progress)

        self.stage.watch._on_progress = heard

    def start(self, name: str) -> None:
        self.begun.append(name)
        self.stage.happens(name, Event("", "started", ""))
        self.most = max(self.most, len(self.begun) - len(self.ended))
        self.stage.say(name, "STATUS image 50%\n")

    def goes_on(self, progress: Progress) -> None:
        """A node that copies is through at once; one that is late, when all others are."""
        if progress.machine not in self.late:
            self.end(progress.machine)
        if len(self.ended) == len(NODES) - len(self.late):
            for name in sorted(self.late - self.ended):
                self.end(name)

    def end(self, name: str) -> None:
        self.ended.add(name)
        self.stage.say(name, "DONE\n")
        self.stage.happens(name, POWERED_OFF)

    def hands(self) -> Hands:
        return Hands(
            self.start,
            lambda name: self.done.append(f"resume {name}"),
            lambda name: self.done.append(f"restore {name}"),
        )


@pytest.fixture
def machines(stage: Stage) -> Machines:  # noqa: F811
    return Machines(stage)


def install(machines: Machines, names: list[str]) -> list[str]:
    acts: dict[str, Act] = dict.fromkeys(names, "install")
    return [reached.machine for reached in bring(machines.stage.watch, "install", acts, set(), machines.hands(), TWO)]


def test_never_more_than_make_sense_are_installed_at_once(machines: Machines) -> None:
    assert sorted(install(machines, NODES)) == sorted(NODES)
    assert machines.begun == NODES
    assert machines.most == pace.at_once("install", TWO) == 3


def test_one_that_is_slow_holds_up_no_other(machines: Machines) -> None:
    machines.late = {"node1", "node2"}
    reached = install(machines, NODES)
    assert sorted(reached) == sorted(NODES)
    assert set(reached[-2:]) == machines.late, "all others were installed beside them"
    assert machines.most == 3


def test_a_failure_ends_it_and_nothing_more_is_begun(machines: Machines) -> None:
    def fail(progress: Progress) -> None:
        if progress.machine == "node5":
            machines.stage.say("node5", "FAIL no disk\n")
        else:
            machines.end(progress.machine)

    machines.on_progress(fail)
    with pytest.raises(ClusterError, match=r"node5 \(install/image\): no disk"):
        install(machines, NODES)
    assert len(machines.begun) < len(NODES)


def test_each_begins_its_time_when_it_is_begun(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that waits for its turn does not become late by that."""
    monkeypatch.setitem(pace._DEADLINES, "install", 0.4)
    machines.on_progress(lambda progress: threading.Timer(0.15, machines.end, [progress.machine]).start())
    begin = time.monotonic()
    assert sorted(install(machines, NODES)) == sorted(NODES)
    assert time.monotonic() - begin > 0.4, "all together took longer than any of them may"


def test_each_comes_back_in_its_own_way(machines: Machines) -> None:
    """Those that have said that they are ready are expected to go on running, all others to say so."""
    files = machines.stage
    for name in ("node2", "node3", "node4"):
        files.say(name, "READY\n")
    acts: dict[str, Act] = {"node1": "start", "node2": "resume", "node3": "restore", "node4": "wait", "node5": "resume"}
    machines.on_progress(lambda progress: files.say(progress.machine, "READY\n"))
    coming = bring(files.watch, "start", acts, {"node2", "node3"}, machines.hands(), TWO)
    reached = []
    for one in coming:
        reached.append(one.machine)
        if one.machine == "node1":
            files.say("node5", "READY\n")
    assert machines.done == ["resume node2", "restore node3", "resume node5"]
    assert machines.begun == ["node1"]
    assert sorted(reached) == ["node1", "node4", "node5"]


def test_one_that_goes_on_is_watched(machines: Machines) -> None:
    files = machines.stage
    files.say("node2", "READY\n")
    acts: dict[str, Act] = {"node2": "resume", "node4": "wait"}
    coming = bring(files.watch, "start", acts, {"node2"}, machines.hands(), TWO)
    files.happens("node2", POWERED_OFF)
    with pytest.raises(ClusterError, match=r"node2 \(running\): it powered off"):
        list(coming)


def test_one_that_never_gets_ready_is_told(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pace._DEADLINES, "start", 0.2)
    with pytest.raises(ClusterError, match=r"node4 \(start\): not ready after 0.2 s"):
        list(bring(machines.stage.watch, "start", {"node4": "wait"}, set(), machines.hands(), TWO))
