"""What a running cluster writes down."""

from __future__ import annotations

from pathlib import Path

from pipeline.cluster import records
from pipeline.report.model import Phase

PHASES = [Phase("head", "boot", 1.0, 2.0), Phase("node1", "install/\x1b[1mcopy", 2.0, 3.5, "from head", True)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    assert records.read(path) == []
    for phase in PHASES:
        records.append(path, phase)
    assert records.read(path) == PHASES
    assert "\x1b" not in path.read_text()


def test_a_run_that_was_killed_leaves_a_readable_one(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    records.append(path, *PHASES)
    with path.open("a") as file:
        file.write('{"machine": "node1", "na')
    assert records.read(path) == PHASES


def test_a_full_disk_is_told_by_what_failed_and_not_by_what_could_not_be_noted() -> None:
    records.append(Path("/dev/full"), *PHASES)


def test_of_very_many_the_last_are_read(tmp_path: Path) -> None:
    path = tmp_path / "timeline.jsonl"
    records.append(path, *(Phase("node1", "start", number, number + 1) for number in range(25_000)))
    found = records.read(path)
    assert len(found) == 20_000 and found[-1].start == 24_999
