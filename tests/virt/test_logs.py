"""Logs with bounds: what is kept, and what is read of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.hosts import namespace
from pipeline.virt import logs

INIT = Path(namespace.__file__).with_name("init.sh")


def test_virtlogd_is_told_the_same() -> None:
    assert f"max_size = {logs.LIMIT}\nmax_backups = 1\n" in INIT.read_text()


def test_a_log_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "head.log"
    for number in range(300):
        logs.append(path, b"%d " % number + b"x" * 100_000 + b"\n")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["head.log", "head.log.0"]
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 2 * logs.LIMIT + 200_000
    data, before = logs.last(path, 6_000_000)
    numbers = [int(line.split()[0]) for line in data.splitlines()]
    assert numbers == list(range(numbers[0], 300)) and len(numbers) > 40
    assert before + len(data) == sum(file.stat().st_size for file in tmp_path.iterdir())
    logs.remove(path)
    assert not list(tmp_path.iterdir())
    logs.remove(path)


def test_the_end_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"third\nfourth\n")
    assert logs.last(path, 100) == (b"third\nfourth\n", 0)
    assert logs.last(path, 8) == (b"fourth\n", 6)
    logs.older(path).write_bytes(b"first\nsecond\n")
    assert logs.last(path, 100) == (b"first\nsecond\nthird\nfourth\n", 0)
    assert logs.last(path, 21) == (b"second\nthird\nfourth\n", 6)
    assert logs.last(path, 8) == (b"fourth\n", 19)


def test_what_never_was_is_no_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        logs.last(tmp_path / "log", 10)


def test_a_log_that_has_just_been_set_aside_is_read_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    logs.older(log).write_bytes(b"one\ntwo\n")
    assert logs.last(log, 100) == (b"one\ntwo\n", 0)
    assert logs.last(log, 5) == (b"two\n", 4)
