"""Text of foreign origin (guests, their disks, scripts, packages) made fit to be shown: the one place that cleans.

A terminal does what such text says: it sets titles and the clipboard, moves lines, answers questions into the shell.
So events are cleaned as they are published, errors when they are told, and commands before they print.  Every pass
takes time in proportion to the text: who writes it must not be able to stop who reads it.
"""

from __future__ import annotations

import re
from typing import Any, TextIO, cast

# Patterns are text here, which `re` compiles when it is first needed: most runs print nothing that needs them.

#: What terminals obey.  A string (title, clipboard, picture) that has no end on its line loses its beginning only:
#: what follows must not vanish with it.
_SEQUENCE = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"  # OSC, DCS, SOS, PM, APC
    r"(?:[^\n\x07\x1b\x90\x98\x9b-\x9f]*(?:\x07|\x1b\\|\x9c))?"
    r"|\x1b(?:[ -/]*[0-~])?"  # the rest; the question mark: one that was cut off
)
_CONTROL = r"[\x00-\x07\x0b-\x1f\x7f-\x9f]"
#: What is not seen but reorders or hides what is (bidirectional overrides, zero widths, tags), ends a line for some
#: readers, or has no place in UTF-8 or XML.  It is shown as U+FFFD, for two names that look alike may differ in it.
_INVISIBLE = (
    "[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_PRIVATE_KEY = r"(?s)-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)"


def clean(text: str) -> str:
    """`text` as a terminal would have left it: without colours, of overwritten and erased text what was left of it.

    Line ends and tabs stay.  No machine prints a private key; should one do so all the same, this is not what
    spreads it.
    """
    if not text.isprintable():
        text = "\n".join(map(_settled, re.sub(_SEQUENCE, "", text).split("\n")))
        text = re.sub(_INVISIBLE, "\ufffd", text)
    return re.sub(_PRIVATE_KEY, "[a private key was here]", text) if "PRIVATE KEY" in text else text


def line(text: str, most: int = 1000) -> str:
    """`text` clean and as one line of at most `most` characters."""
    return clip(" ".join(clean(text).split("\n")), most)


def clip(text: str, most: int) -> str:
    """The first `most` characters, and how many were left out."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most} more characters)"


def last_lines(text: str, lines: int, most: int = 1000) -> str:
    """The last lines of a log, clean, none longer than `most` characters."""
    return "\n".join(clip(item, most) for item in clean(text).rstrip("\n").split("\n")[-lines:])


def cleaned(stream: TextIO) -> TextIO:
    """`stream`, but that text comes out clean; its `buffer` still takes bytes as they are."""
    return cast(TextIO, _Cleaned(stream))


class _Cleaned:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(clean(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _settled(text: str) -> str:
    """One line when nothing moves on it any more."""
    text = re.sub(_CONTROL, "", text.rstrip("\r").rpartition("\r")[2])
    if "\b" not in text:
        return text
    kept: list[str] = []
    for letter in text:
        if letter != "\b":
            kept.append(letter)
        elif kept:
            kept.pop()
    return "".join(kept)
