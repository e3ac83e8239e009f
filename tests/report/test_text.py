"""Words and figures of a report, and text of machines as markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.markup import element, text
from pipeline.report.text import duration, size, tail


@settings(deadline=None)     # a busy machine is no mistake
@given(st.text())
def test_markup_cannot_be_broken(raw: str) -> None:
    made = element("td", raw, title=raw)
    assert made.count("<") == 2 and made.count(">") == 2 and made.count('"') == 2
    assert "<" not in text(raw)


def test_tail_starts_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_bytes(b"first line\nsecond line\nthird\n")
    assert tail(path, 1000) == ("first line\nsecond line\nthird\n", 0)
    assert tail(path, 10) == ("third\n", 23)


@pytest.mark.parametrize(("seconds", "shown"), [
    (0.4249, "0.42 s"), (7.31, "7.3 s"), (59.99, "60.0 s"), (125, "2:05 min"), (3725, "1:02:05 h"),
])
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [
    (0, "0 B"), (812, "812 B"), (3_250_000, "3.1 MiB"), (400 << 20, "400 MiB"), (5 << 40, "5.0 TiB"),
])
def test_size(count: int, shown: str) -> None:
    assert size(count) == shown
