"""What benchmarks tell of ratios: those that got worse, and one table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import all as every
from benchmarks import measure
from benchmarks.measure import Row, baseline, keep, machine, ratios, regressions, report


def test_only_what_got_worse_by_more_than_is_chance_is_told() -> None:
    kept = {"even": 1.0, "a little": 1.0, "worse": 0.5, "better": 2.0, "gone": 1.0}
    told = regressions(kept, {"even": 1.0, "a little": 1.14, "worse": 0.6, "better": 1.0, "new": 9.0})
    assert told == ["WORSE: worse: 0.60 x, last good run 0.50 x (+20%)", "not measured this time: gone"]


def test_ratios_are_kept_by_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "baseline.toml"
    assert baseline(file) == {}
    rows = [Row("seconds", 3.0), Row('  a "quoted" ratio', 1.234, "x"), Row("tasks", 2, "")]
    keep("clean", ratios(rows), file)
    keep("noop", {"other": 2.0}, file)
    assert baseline(file) == {"clean": {'a "quoted" ratio': 1.23}, "noop": {"other": 2.0}}
    keep("noop", {"another": 3.0}, file)  # what is no longer measured goes
    assert baseline(file)["noop"] == {"another": 3.0}


def test_a_report_tells_what_got_worse_and_keeps_it_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "baseline.toml"
    monkeypatch.setattr(measure, "REPORTS", tmp_path / "reports")
    monkeypatch.setattr(baseline, "__defaults__", (file,))
    monkeypatch.setattr(keep, "__defaults__", (file,))
    keep("clean", {"ratio": 1.0})
    rows = [Row("ratio", 1.5, "x"), Row("seconds", 1.0, goal=2.0)]
    report("clean", "Clean", rows, machine())
    told = json.loads((tmp_path / "reports" / "clean.json").read_text())
    assert told["worse"] == ["WORSE: ratio: 1.50 x, last good run 1.00 x (+50%)"]
    assert told["worse"][0] in capsys.readouterr().out
    assert baseline()["clean"] == {"ratio": 1.0}
    monkeypatch.setattr(sys, "argv", ["clean.py", "--keep"])
    report("clean", "Clean", rows, machine())
    assert baseline()["clean"] == {"ratio": 1.5}


def test_readme_has_the_table_of_the_last_good_run() -> None:
    readme = every.README.read_text()
    assert every.with_table(readme, every.table(baseline())) == readme


def test_every_benchmark_of_the_table_is_there() -> None:
    assert all((measure.TOP / "benchmarks" / f"{name}.py").exists() for name in every.NAMES)
