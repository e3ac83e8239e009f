"""`doit vm`: what is typed, and what comes of it; the machines themselves are tested elsewhere."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.acting import Action, Line, Told
from pipeline.commands.vm import Vm
from pipeline.errors import NotNow, NotThere, Unreachable
from pipeline.verbs import actions
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
            raise Unreachable(f"{self.cluster.name} is not to be reached")
        return [Line("head", "running", 1024, 1024, 2, "tcg"), Line("node1", "saved", 512, 512, 1, "tcg")]

    def act(self, action: Action, names: list[str], args: argparse.Namespace, _advice: object) -> Iterator[Told]:
        self.asked.append((args.cluster, args.verb, names, not getattr(args, "no_wait", False)))
        assert action is actions()[args.verb]
        yield "node1", "done"


class Graph:
    """Three clusters."""

    clusters = ("one", "two", "three")

    def __init__(self, *_: object) -> None:
        self.asked: list[tuple[object, ...]] = []

    def booted(self) -> tuple[str, ...]:
        return self.clusters

    def running(self, name: str) -> Any:
        if name not in self.clusters:
            raise NotThere(f"there is no cluster {name!r}")
        return SimpleNamespace(
            cluster=cluster(name),
            host=SimpleNamespace(name="local", hypervisor="qemu"),
            run_dir=Path("/nowhere"),
            machines=lambda: Machines(name, self.asked),
        )


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Graph:
    made = Graph()
    monkeypatch.setattr("pipeline.tasks.Graph", lambda _folder: made)
    return made


def vm(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["doit", "vm", *words])
    status: int = Vm().parse_execute(list(words))
    return status


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("pause", "one"), ("one", "pause", [], True)),
        (("stop", "one", "node1", "head"), ("one", "stop", ["head", "node1"], True)),
        (("save", "one", "node[1-2]"), ("one", "save", ["node1", "node2"], True)),
        (("save", "one", "node*", "head"), ("one", "save", ["head", "node1", "node2"], True)),
        (("start", "one", "node2", "--no-wait"), ("one", "start", ["node2"], False)),
        (("restore", "two"), ("two", "restore", [], True)),
    ],
)
def test_actions(
    graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    asked: tuple[object, ...],
) -> None:
    assert vm(monkeypatch, *words) == 0
    assert graph.asked == [asked]
    assert capsys.readouterr().out == "node1: done\n"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("pause", "one", "nod1"), 3, "there is no machine 'nod1'\n  hint: did you mean node"),
        (("pause", "one", "node[2-3]"), 3, "there is no machine 'node3', which node[2-3] stands for"),
        (("pause", "one", "node[2-"), 2, "'node[2-' is no pattern: a bracket is missing"),
        (("save", "none"), 3, "there is no cluster 'none'"),
        (("list", "two"), 5, "two is not to be reached"),
        (("list", "none"), 3, "there is no cluster 'none'"),
    ],
)
def test_mistakes(
    graph: Graph,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    assert vm(monkeypatch, *words) == status
    assert message in capsys.readouterr().err
    assert graph.asked == []


def test_what_the_readme_says_of_it_can_be_typed() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    lines = {line.replace("\n", " ").split(" > ")[0] for line in re.findall(r"`doit vm ([a-z]+ [^`]+)`", text)}
    assert len(lines) > 15
    for line in lines:
        Vm().parser().parse_args(shlex.split(line))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("stop one --force node1", {"machines": ["node1"], "force": True}),
        ("stop --force one node1 --json node2", {"machines": ["node1", "node2"], "json": True}),
        ("stop one --force", {"machines": []}),
        ("add one --count 2 memory=1G --membership login cpus=2", {"count": 2, "fields": ["memory=1G", "cpus=2"]}),
        ("remove one --disks node1 --yes", {"machines": ["node1"], "disks": True, "yes": True}),
        ("list --json", {"cluster": None, "json": True}),
    ],
)
def test_options_may_stand_anywhere(line: str, expected: dict[str, object]) -> None:
    found = vars(Vm().parser().parse_args(line.split()))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("words", [(), ("pause",), ("halt", "one"), ("pause", "one", "--no-wait")])
def test_what_no_command_has(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert vm(monkeypatch, *words) == 2
    assert "usage: doit vm" in capsys.readouterr().err


def test_a_list_of_all_tells_what_it_could_not_ask(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vm(monkeypatch, "list") == 5
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "one  head   running  qemu/local  1024 MiB  2 cpu  52:54:00:00:01:00 52:54:00:00:00:00",
        "one  node1  saved    qemu/local  512 MiB   1 cpu  52:54:00:00:00:01",
    ]
    assert said.err == "two is not to be reached\n"


def test_a_list_of_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Graph, "clusters", ("three",))
    assert vm(monkeypatch, "list") == 0
    assert capsys.readouterr().out == "no cluster runs\n"
    assert vm(monkeypatch, "list", "--json") == 0
    assert capsys.readouterr().out == "[]\n"


def test_programs_read_the_same(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vm(monkeypatch, "pause", "one", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [{"cluster": "one", "machine": "node1", "result": "done"}]
    assert vm(monkeypatch, "list", "--json") == 5
    said = capsys.readouterr()
    assert json.loads(said.out)[1] == {
        "cluster": "one",
        "machine": "node1",
        "state": "saved",
        "hypervisor": "qemu",
        "host": "local",
        "memory_mib": 512,
        "cpus": 1,
        "macs": ["52:54:00:00:00:01"],
        "next_boot": "os",
        "why": "",
    }
    assert said.err == "two is not to be reached\n"


def test_what_was_done_before_something_failed_is_told_to_programs_too(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(*_: object) -> Iterator[Told]:
        yield "node1", "off"
        raise Unreachable("its host no longer answers")

    monkeypatch.setattr(Machines, "act", half)
    assert vm(monkeypatch, "stop", "one", "--json") == 5
    said = capsys.readouterr()
    assert json.loads(said.out) == [{"cluster": "one", "machine": "node1", "result": "off"}]
    assert "no longer answers" in said.err


def test_what_cannot_be_done_now_has_a_status_of_its_own(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> Iterator[Told]:
        raise NotNow("node1 is off: only one that is running can be paused")

    monkeypatch.setattr(Machines, "act", refuse)
    assert vm(monkeypatch, "pause", "one", "node1") == 4
    assert "node1 is off" in capsys.readouterr().err
