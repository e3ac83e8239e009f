"""Text of machines made fit to be shown: without escape sequences, control characters and secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path

_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC, DCS and the like: titles, links
    r"|[ -/]*[0-~])?"  # the rest; the question mark: one that was cut off
    r"|\x9b[0-?]*[ -/]*[@-~]"
)
#: Neither HTML nor XML has a way to hold these.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_OVERWRITTEN = re.compile(r"^[^\n]*\r(?=[^\r\n])", re.MULTILINE)
_PRIVATE_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL)


def clean(text: str) -> str:
    """`text` as a terminal would have left it: without colours, of overwritten lines the last state.

    No machine prints a private key; should one do so all the same, the report is not what spreads it.
    """
    text = _ESCAPE.sub("", text).replace("\r\n", "\n")
    text = _OVERWRITTEN.sub("", text)
    text = _CONTROL.sub("", text)
    return _PRIVATE_KEY.sub("[a private key was here]", text)


def tail(path: Path, most: int) -> tuple[str, int]:
    """The last `most` bytes of a console, from the start of a line, and how many bytes come before them."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - most))
        data = file.read()
    if size > most:
        data = data[data.find(b"\n") + 1 :]
    return clean(data.decode("utf-8", "replace")), size - len(data)


def duration(seconds: float) -> str:
    """`0.42 s`, `7.3 s`, `2:05 min`, `1:02:05 h`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def size(count: int) -> str:
    """`812 B`, `3.1 MiB`."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
