"""A cluster is begun anew in its place: what is made, in which order, and what becomes of it when something fails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.cluster import described
from pipeline.cluster.course import Course
from pipeline.cluster.runner import Runner
from pipeline.description import Host, Machine
from pipeline.drivers.domain import Purpose
from pipeline.engine import Engine
from pipeline.errors import ClusterError
from pipeline.step import Plan
from pipeline.virt.accelerator import Found
from pipeline.virt.disks import Given
from tests.samples import cluster

HOST = Host("local", "qemu", "private")


class Parts:
    """Two disks a head node, one a compute node; none of them is anything."""

    netboot = "netboot:amd64"

    def tasks(self) -> list[str]:
        return []

    def marks(self, machine: str) -> Mapping[str, str]:
        return {}

    def definition(self, machine: str, purpose: Purpose) -> str:
        return ""

    def disks(self, machines: Sequence[Machine], folder: Path) -> list[Given]:
        return [Given(machine.name, folder / machine.name, folder, "") for machine in machines]

    def given(self, folder: Path) -> list[Given]:
        return [Given("identity", folder / "identity", folder, "", readonly=True)]

    def kernels(self) -> Mapping[str, Path]:
        return {}


class Place:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails = ""

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if what == self.fails:
            raise ClusterError(f"{what} fails")

    def find(self) -> object:
        return SimpleNamespace() if self.asked else None

    def accelerator(self, _here: object) -> Found:
        return Found("tcg", "emulated")

    def require_memory(self, _found: Found, machines: Sequence[Machine]) -> None:
        self._note("memory")

    def start(self, disks: Sequence[Given], _kernels: object, _holder: object) -> None:
        self._note(f"start with {' '.join(disk.name for disk in disks)}")

    def stop(self) -> None:
        self._note("stop")

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        self._note("leased")
        yield
        self._note("kept")


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def runner(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> Runner:
    engine = Engine(Plan(), tmp_path / "artifacts", tmp_path / "recipes")
    made = Runner(cluster("one"), HOST, tmp_path / "run/one", engine, Parts, lambda phase: f"{phase}:one", "doit one")
    monkeypatch.setattr(made, "place", place)
    monkeypatch.setattr(engine, "collect", lambda **_: place._note("collect"))

    def bring(phase: str, found: Course) -> None:
        place._note(f"{phase} {' '.join(found.acts)}")

    monkeypatch.setattr(made, "bring", bring)
    return made


BEGUN = ["stop", "collect", "memory", "leased", "start with head node1 node2 identity", "boot head"]


def test_a_cluster_is_begun_with_its_head_node_and_kept(runner: Runner, place: Place) -> None:
    with runner.begun():
        assert place.asked == BEGUN
    assert place.asked == [*BEGUN, "kept"]
    assert runner.run_dir.stat().st_mode & 0o077 == 0, "it holds secrets"
    found = described.read(runner.run_dir)
    assert found is not None and (found.cluster, found.host) == (runner.cluster, HOST)
    assert [(phase.name, phase.detail) for phase in runner.timeline()] == [("networks and disks", "emulated")]


@pytest.mark.parametrize("fails", BEGUN[4:])
def test_one_that_does_not_get_there_is_ended_and_its_folder_stays_for_a_look(
    runner: Runner, place: Place, fails: str
) -> None:
    place.fails = fails
    with pytest.raises(ClusterError, match="fails"), runner.begun():
        pytest.fail("it has not begun")
    assert place.asked == [*BEGUN[: BEGUN.index(fails) + 1], "stop"]
    assert (runner.run_dir / "disks").is_dir()


def test_one_for_which_there_is_no_memory_makes_nothing(runner: Runner, place: Place) -> None:
    place.fails = "memory"
    with pytest.raises(ClusterError, match="memory fails"), runner.begun():
        pytest.fail("it has not begun")
    assert place.asked == BEGUN[:3], "nothing was there that had to be ended"


@pytest.mark.parametrize("error", [ClusterError("an OPKG's script failed"), KeyboardInterrupt()])
def test_what_fails_before_it_is_whole_ends_it(runner: Runner, place: Place, error: BaseException) -> None:
    with pytest.raises(type(error)), runner.begun():
        raise error
    assert place.asked == [*BEGUN, "stop"]


def test_what_once_came_up_is_spared(runner: Runner, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "explained", contextlib.nullcontext, raising=False)
    with pytest.raises(ClusterError) as caught, runner.spared():
        raise ClusterError("node1 is silent", hint="look at it")
    assert caught.value.hint.startswith("look at it; one is left as it is; after doit vm stop one MACHINE")
    assert place.asked == []


def test_what_is_not_built_cannot_be_begun(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_parts", lambda: cast(Any, SimpleNamespace(tasks=lambda: ["disk:one/head"])))
    monkeypatch.setattr(runner.engine.keys, "entry", lambda _task: None)
    with pytest.raises(ClusterError, match="one is not built") as caught:
        runner.require_built()
    assert caught.value.hint == "doit one"
