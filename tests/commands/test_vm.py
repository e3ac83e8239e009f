"""`doit vm`: what is typed, and what comes of it; the machines themselves are tested elsewhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.machines import Line
from pipeline.commands.vm import Vm
from pipeline.errors import ClusterError, UserError
from tests.samples import cluster


class Machines:
    """Notes what is asked of it; the cluster `two` does not answer, `three` does not run."""

    def __init__(self, name: str, asked: list[tuple[object, ...]]) -> None:
        self.cluster = cluster(name)
        self.asked = asked

    def runs(self) -> bool:
        return self.cluster.name != "three"

    def lines(self) -> list[Line]:
        if self.cluster.name != "one":
            raise ClusterError(f"{self.cluster.name} is not to be reached")
        return [Line("head", "running", 1024, 2, "tcg"), Line("node1", "saved", 512, 1, "tcg")]

    def act(self, action: str, names: list[str], show: Any, *, wait: bool) -> None:
        self.asked.append((self.cluster.name, action, names, wait))
        show("node1", "done")


class Graph:
    """Three clusters."""

    clusters = ("one", "two", "three")

    def __init__(self, *_: object) -> None:
        self.asked: list[tuple[object, ...]] = []

    def booted(self) -> tuple[str, ...]:
        return self.clusters

    def running(self, name: str) -> Any:
        if name not in self.clusters:
            raise UserError(f"there is no cluster {name!r}")
        return SimpleNamespace(cluster=cluster(name), host=SimpleNamespace(name="local", hypervisor="qemu"),
                               machines=lambda: Machines(name, self.asked))


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    made = Graph()
    monkeypatch.setattr("pipeline.tasks.Graph", lambda _folder: made)
    return made


def vm(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["doit", "vm", *words])
    status: int = Vm().parse_execute(list(words))
    return status


@pytest.mark.parametrize(("words", "asked"), [
    (("pause", "one"), ("one", "pause", [], True)),
    (("stop", "one", "node1", "head"), ("one", "stop", ["node1", "head"], True)),
    (("start", "one", "node2", "--no-wait"), ("one", "start", ["node2"], False)),
    (("restore", "two"), ("two", "restore", [], True)),
])
def test_actions(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                 words: tuple[str, ...], asked: tuple[object, ...]) -> None:
    assert vm(monkeypatch, *words) == 0
    assert graph.asked == [asked]
    assert capsys.readouterr().out == "node1: done\n"


@pytest.mark.parametrize(("words", "message"), [
    (("pause", "one", "nod1"), "there is no machine 'nod1'\n  hint: did you mean node1"),
    (("save", "none"), "there is no cluster 'none'"),
    (("list", "two"), "two is not to be reached"),
    (("list", "none"), "there is no cluster 'none'"),
])
def test_mistakes(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                  words: tuple[str, ...], message: str) -> None:
    assert vm(monkeypatch, *words) == 1
    assert message in capsys.readouterr().err
    assert graph.asked == []


@pytest.mark.parametrize("words", [(), ("pause",), ("halt", "one"), ("pause", "one", "--no-wait")])
def test_what_no_command_has(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                             words: tuple[str, ...]) -> None:
    assert vm(monkeypatch, *words) == 2
    assert "usage: doit vm" in capsys.readouterr().err


def test_a_list_of_all_tells_what_it_could_not_ask(graph: Graph, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert vm(monkeypatch, "list") == 1
    said = capsys.readouterr()
    assert [line.split() for line in said.out.splitlines()] == [
        ["one", "head", "running", "qemu/local", "1024", "MiB", "2", "cpu"],
        ["one", "node1", "saved", "qemu/local", "512", "MiB", "1", "cpu"]]
    assert said.err == "two is not to be reached\n"


def test_a_list_of_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Graph, "clusters", ("three",))
    assert vm(monkeypatch, "list") == 0
    assert capsys.readouterr().out == "no cluster runs\n"
