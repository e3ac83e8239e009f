"""What becomes of a verdict: told in every form, kept where it is good, and taken back where it is not."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.checks import verify as checks
from pipeline.checks.result import Outcome, Result, Verdict
from pipeline.cluster import verification
from pipeline.cluster.added import Added
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.runner import Runner
from pipeline.errors import ClusterError
from pipeline.report.model import Timeline
from pipeline.tasks import Graph
from pipeline.virt.pace import Capacity
from tests.boot.checkout import TOP

NAME = "debian12"
KEY = "5" * 64


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lifecycle:
    """A cluster that runs, as far as verification sees it: what it is made of is not asked here."""
    monkeypatch.setenv("XEN_OSCAR_ARTIFACTS", str(tmp_path))
    made = Graph(TOP).lifecycle(NAME)
    made.run_dir.mkdir(parents=True)
    monkeypatch.setattr(made, "shell", lambda: SimpleNamespace(connected=contextlib.nullcontext))
    monkeypatch.setattr(Runner, "capacity", lambda _self: Capacity(2, "tcg"))
    monkeypatch.setattr(verification, "_packages", lambda *_: {})
    monkeypatch.setattr(verification, "_files", lambda _life: {})
    monkeypatch.setattr(verification, "_timeline", lambda life: Timeline(tuple(life.runner.timeline()), ()))
    monkeypatch.setattr(verification, "_artifacts", lambda _life: ())
    monkeypatch.setattr(made.engine.keys, "key", lambda _record: KEY)
    monkeypatch.setattr(made.engine.keys, "ingredients", lambda _record: {"parents": {}})
    return made


def verdict(monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome) -> Verdict:
    """What the checks will say, machine by machine."""
    results = tuple(
        Result("ping", f"node{number}", outcome, "no answer" if outcome == "failed" else "")
        for number, outcome in enumerate(outcomes, 1)
    )
    given = Verdict(NAME, 1_700_000_000.0, 12.5, results)

    def verify(_cluster: object, _shell: object, _expected: object, show: Any, **_pace: object) -> Verdict:
        for result in results:
            show(result)
        return given

    monkeypatch.setattr(checks, "verify", verify)
    return given


def test_a_good_verdict_is_an_artifact_and_is_told_in_every_form(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = verdict(monkeypatch, "passed", "skipped")
    verification.verify(life)
    entry = life.engine.store.get(KEY)
    assert entry is not None and entry.manifest["task"] == f"verify:{NAME}"
    assert Verdict.from_json(json.loads((entry.path / "verdict.json").read_text())) == given
    assert life.engine.store.linked(f"verify:{NAME}") is not None
    assert {path.name for path in life.report_dir.iterdir()} >= {"verdict.json", "junit.xml", "report.html"}
    assert [(phase.name, phase.detail) for phase in life.runner.timeline()] == [("verify", "1 of 2 checks passed")]


def test_a_bad_verdict_is_told_and_takes_a_good_one_on_the_same_artifacts_back(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict(monkeypatch, "passed")
    verification.verify(life)
    verdict(monkeypatch, "passed", "failed", "error")
    with pytest.raises(ClusterError, match="debian12: 2 of 3 checks did not pass") as caught:
        verification.verify(life)
    assert "node2: ping: no answer" in caught.value.tail
    assert caught.value.log == life.report_dir / "report.html"
    assert "doit ssh debian12" in caught.value.hint
    assert life.engine.store.get(KEY) is None, "it is worth nothing any more"
    assert json.loads((life.report_dir / "verdict.json").read_text())["outcome"] == "failed"


def test_a_verdict_on_nothing_is_none(life: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict(monkeypatch, "skipped")
    with pytest.raises(ClusterError, match="0 of 1 checks did not pass"):
        verification.verify(life)
    assert life.engine.store.get(KEY) is None


def test_a_verdict_on_a_cluster_to_which_opkgs_came_is_none_on_its_recipe(
    life: Lifecycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict(monkeypatch, "passed")
    verification.verify(life)
    entry = life.engine.store.get(KEY)
    assert entry is not None
    monkeypatch.setattr(life.engine.keys, "entry", lambda _task: entry)
    life.added.put(Added("tool", "whole", machines=("head", "node1", "node2")))
    monkeypatch.setattr(life, "states", lambda: {"head": "running"})
    assert not life.has_verdict(), "it is not about what runs"
    verdict(monkeypatch, "passed", "passed")
    verification.verify(life)
    assert json.loads((life.report_dir / "verdict.json").read_text())["outcome"] == "passed"
    verdict(monkeypatch, "failed")
    with pytest.raises(ClusterError):
        verification.verify(life)
    kept = life.verdict()
    assert kept is not None and len(kept.results) == 1, "the one on the recipe stays"
    monkeypatch.setattr(life, "states", dict)
    assert life.has_verdict(), "nothing else runs any more"
