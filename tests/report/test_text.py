"""Text of machines, made fit to be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.markup import element, text
from pipeline.report.text import clean, duration, size, tail


@pytest.mark.parametrize(("raw", "shown"), [
    ("[  \x1b[0;32mOK\x1b[0m  ] Started\r\n", "[  OK  ] Started\n"),
    ("\x1b[2J\x1b[01;00Hiniting\x1b[?7l", "initing"),
    ("\x1b]0;a title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
    ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
    ("half\x1b[", "half"),
    ("\x1b(B\x1b=x\x1bcy", "xy"),
    ("tab\tkept\x00\x07", "tab\tkept"),
    ("a\n-----BEGIN RSA PRIVATE KEY-----\nsecret\n-----END RSA PRIVATE KEY-----\nb", "a\n[a private key was here]\nb"),
    ("-----BEGIN PRIVATE KEY-----\nsecret, cut off", "[a private key was here]"),
])
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@settings(deadline=None)     # a busy machine is no mistake
@given(st.text())
def test_clean_text_can_stand_anywhere(raw: str) -> None:
    shown = clean(raw)
    shown.encode()
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)


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
