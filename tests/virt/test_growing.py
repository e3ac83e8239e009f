"""Files that machines fill: all of what a sensible one writes, and of any other no more than one look can take."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

from pipeline.virt.growing import Growing


def test_growing_follows_appends_truncation_and_replacement(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    assert growing.lines() == []
    path.write_bytes(b"one\ntw")
    assert growing.lines() == [b"one"]
    assert growing.unfinished == b"tw"
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert growing.lines() == [b"two", b"three"]
    path.write_bytes(b"new\n")
    assert growing.lines() == [b"new"]
    (tmp_path / "other").write_bytes(b"a file that is longer\n")
    (tmp_path / "other").rename(path)
    assert growing.lines() == [b"a file that is longer"]
    growing.restart()
    assert growing.lines() == [b"a file that is longer"]
    growing.skip()
    assert growing.lines() == []


def all_lines(growing: Growing) -> list[bytes]:
    """Look until it is no longer behind."""
    lines = growing.lines()
    while growing.behind:
        lines += growing.lines()
    return lines


def test_nothing_of_a_burst_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    lines = [f"line {number} of many".encode() for number in range(40_000)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert len(growing.lines()) < 10_000, "one look takes a part"
    growing.restart()
    assert all_lines(growing) == lines
    assert growing.passed_over == 0


def test_a_log_that_is_set_aside_is_read_to_its_end_first(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    path.write_bytes(b"one\n")
    assert growing.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"two\nthree\nhalf")
    path.rename(tmp_path / "log.0")
    path.write_bytes(b"four\n")
    assert growing.lines() == [b"two", b"three", b"half", b"four"]
    path.rename(tmp_path / "log.0")
    (tmp_path / "log.0").unlink()
    path.write_bytes(b"five\n")
    assert growing.lines() == [b"five"]


def test_of_a_flood_the_end_is_seen_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    with path.open("ab") as file:
        file.write(b"first\n")
        for _ in range(20):
            file.write(b"a line that nobody needs\n" * 40_000)
        file.write(b"the last\n")
    size = path.stat().st_size
    lines = all_lines(growing)
    assert (lines[0], lines[-1]) == (b"first", b"the last")
    assert all(b"a line that nobody needs".startswith(line) for line in lines[1:-1])
    assert size - 600_000 < growing.passed_over < size
    assert abs(sum(len(line) + 1 for line in lines) + growing.passed_over - size) <= 1


def test_a_line_without_an_end_takes_no_memory_and_no_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    tracemalloc.start()
    begin = time.process_time()
    with path.open("ab") as file:
        file.write(b"beginning ")
        for _ in range(400):
            file.write(b"x" * 50_000)
            file.flush()
            assert growing.lines() == []
            assert len(growing.unfinished) <= 64 * 1024
    spent, (_, most) = time.process_time() - begin, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 10 and most < 2_000_000
    with path.open("ab") as file:
        file.write(b" end\nnext\n")
    line, following = growing.lines()
    assert line.startswith(b"beginning xxx") and line.endswith(b"xxx end") and following == b"next"
    assert growing.passed_over == 20_000_014 - len(line)


def test_of_a_line_that_is_overwritten_again_and_again_the_last_state_counts(tmp_path: Path) -> None:
    path = tmp_path / "log"
    growing = Growing(path)
    path.write_bytes(b"".join(b"Reading database ... %d%%\r" % number for number in range(4_500)))
    assert growing.lines() == []
    assert growing.unfinished.endswith(b"Reading database ... 4499%\r")
    assert growing.passed_over == 0
