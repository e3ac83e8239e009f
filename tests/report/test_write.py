"""The three files of a report, and what a terminal shows."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

from pipeline.checks.result import Result, Verdict
from pipeline.report.terminal import show
from pipeline.report.write import write
from tests.checks.samples import cluster
from tests.report.samples import ARTIFACTS, FAILED, PASSED, TIMELINE


def test_files(tmp_path: Path) -> None:
    verdict = Verdict("debian12", 1.0, 2.0, (Result("ping", "node1", "passed", "in 2 ms"),))
    for _ in range(2):  # a later report takes the place of an earlier one
        page = write(tmp_path / "new", verdict, cluster(), TIMELINE, {}, ARTIFACTS)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["junit.xml", "report.html", "verdict.json"]
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert Verdict.from_json(json.loads((tmp_path / "new" / "verdict.json").read_text())) == verdict
    ElementTree.parse(tmp_path / "new" / "junit.xml")


def test_hostile_output_can_be_written(tmp_path: Path) -> None:
    assert write(tmp_path, FAILED, cluster(), TIMELINE, {}, ARTIFACTS).exists()


def shown(verdict: Verdict, *, tty: bool = False) -> str:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return tty

    stream = Terminal()
    show(verdict, stream)
    return stream.getvalue()


def test_plain_lines() -> None:
    text = shown(FAILED)
    assert "\x1b" not in text and "c2VjcmV0" not in text
    lines = text.splitlines()
    assert lines[0] == "✓ oscarhead: 2 of 2 checks passed"
    assert lines[1] == "✗ node1: 1 of 2 checks passed"
    assert lines[2].startswith("  ✗ packages: 2 missing: <script>")
    assert "  - clock: no answer to ssh" in lines
    assert lines[-1] == "debian12: failed (3 passed, 1 failed, 1 error, 1 skipped) in 22 s"
    assert shown(PASSED).splitlines()[-1] == "debian12: passed (3 passed) in 22 s"


def test_terminal() -> None:
    text = shown(FAILED, tty=True)
    assert "oscarhead: 2 of 2 checks passed" in text and "debian12: failed" in text
