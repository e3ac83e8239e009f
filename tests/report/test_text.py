"""Words and figures of a report, and text of machines as markup."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.markup import element, text
from pipeline.report.text import tail


@settings(deadline=None)  # a busy machine is no mistake
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
