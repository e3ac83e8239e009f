"""Text of foreign origin: no terminal obeys it, and whoever writes it cannot stop who reads it."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import foreign
from pipeline.foreign import clean

#: Not printable for Python and yet seen: spaces of other widths, what is private or not yet known to it.
SEEN = ("Zs", "Co", "Cn")
#: Format characters that are seen: signs of Arabic and other numbers.
SIGNS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13460)}


def is_harmless(text: str) -> bool:
    """By code that shares nothing with what cleans: all that is shown is seen, and stays in its place."""
    return all(
        letter.isprintable() or letter in "\n\t" or unicodedata.category(letter) in SEEN or ord(letter) in SIGNS
        for letter in text
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("[  \x1b[0;32mOK\x1b[0m  ] Started\r\n", "[  OK  ] Started\n"),
        ("\x1b[2J\x1b[01;00Hiniting\x1b[?7l", "initing"),
        ("\x1b]0;a title\x07text\x1b]8;;http://x\x1b\\link", "textlink"),
        ("\x1b]52;c;cm0gLXJmIH4K\x07clipboard", "clipboard"),
        ("\x1bP1$r0m\x1b\\\x1b_apc\x1b\\\x1b^pm\x1b\\\x1bXsos\x1b\\strings", "strings"),
        ("\x9b31mred\x9d0;title\x9ceight \x90dcs\x1b\\bits\x85\x84", "redeight bits"),
        ("\x1b]0;no end\nnext line\x1b]52;c;also none", "0;no end\nnext line52;c;also none"),
        ("\x1b]0;one in \x1b]0;another\x07", "0;one in "),
        ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
        ("half\x1b[", "half"),
        ("\x1b(B\x1b=x\x1bcy\x1b[6n\x05", "xy"),
        ("\x1b\x00[31mx", "[31mx"),
        ("tab\tkept\x00\x07", "tab\tkept"),
        ("pass\b\b\b\bfail\b", "fai"),
        ('access = \u202e\u2066"user"\u2069\u2066', 'access = \ufffd\ufffd"user"\ufffd\ufffd'),
        ("lo\u200bok \u00ad\ufeff\u2028alike \U000e0041", "lo\ufffdok \ufffd\ufffd\ufffdalike \ufffd"),
        ("name-\udce9\udcff", "name-\ufffd\ufffd"),
        ("plain, gr\u00fcn, \u65e5\u672c, \u2713", "plain, gr\u00fcn, \u65e5\u672c, \u2713"),
        (
            "a\n-----BEGIN RSA PRIVATE KEY-----\nsecret\n-----END RSA PRIVATE KEY-----\nb",
            "a\n[a private key was here]\nb",
        ),
        ("-----BEGIN PRIVATE KEY-----\nsecret, cut off", "[a private key was here]"),
    ],
)
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


@given(st.text())
def test_clean_text_can_stand_anywhere(raw: str) -> None:
    shown = clean(raw)
    shown.encode()
    assert is_harmless(shown)
    assert clean(shown) == shown


@given(st.lists(st.sampled_from([*"\x1b[]\x9b\x9d\x07\\\b\r\n;m\u202e", "0;"])))
def test_no_pieces_of_sequences_make_one(pieces: list[str]) -> None:
    assert is_harmless(clean("".join(pieces)))


@pytest.mark.parametrize(
    "piece",
    [
        "a\b",
        "\x1b]",
        "\x1b]0;a",
        "\x9d",
        "\x1b[1;",
        "\x1b ",
        "a\r",
        "\x1bP\x9c",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_it_takes_time_in_proportion(piece: str) -> None:
    """A million bytes of the worst that a guest can print; squared, that would be minutes."""
    begin = time.process_time()
    clean(piece * (1_000_000 // len(piece)))
    clean("a" * 500_000 + piece * (500_000 // len(piece)))
    assert time.process_time() - begin < 5


def test_erased_text_of_a_million_bytes() -> None:
    begin = time.process_time()
    assert clean("a" * 500_000 + "\b" * 499_999) == "a"
    assert time.process_time() - begin < 5


def test_one_line_has_no_others_and_an_end() -> None:
    assert foreign.line("a\x1b[1m\nb\u2028c\x0bd\re") == "a e"
    assert foreign.line("x" * 20, 10) == "xxxxxxxxxx... (10 more characters)"


def test_last_lines() -> None:
    assert foreign.last_lines("a\nb\x1b[1m\nc\n\n", 2) == "b\nc"
    assert foreign.last_lines("", 2) == ""
    assert foreign.last_lines("ab" * 10, 2, 4) == "abab... (16 more characters)"
