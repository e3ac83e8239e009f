"""On which line of a TOML file a key stands: tomllib does not tell, and an error without a line is half an error.

The scanner runs over text that tomllib has already accepted, so it needs to find its way and not to judge.  Should it
lose its way all the same, it keeps what it found: a key without a line of its own has the line of what it stands in.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib

from pipeline.mistakes import Key

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\"]|\\.|"(?!""))*"{3,5}' r"|'''(?:[^']|'(?!''))*'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


def positions(text: str) -> dict[Key, int]:
    """The line of every key and list entry: ("compute", "count") or ("opkgs", 2) -> line number, from 1."""
    scanner = _Scanner(text)
    with contextlib.suppress(IndexError, ValueError, RecursionError):
        scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Key, int] = {}
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self._lengths: dict[Key, int] = {}

    def document(self) -> None:
        table: Key = ()
        while self._skip(_SPACE):
            if self.text.startswith("[[", self.at):
                table = self._list_entry(2)
                self.at += 2
            elif self.text[self.at] == "[":
                start, self.at = self.at, self.at + 1
                table = self._resolve(self._key(), start)
                self.lines[table] = self._line(start)  # until now perhaps that of a table within
                self.at += 1
            else:
                self._pair(table)

    def _list_entry(self, width: int) -> Key:
        start, self.at = self.at, self.at + width
        parts = self._key()
        path = (*self._resolve(parts[:-1], start), parts[-1])
        self._lengths[path] = self._lengths.get(path, 0) + 1
        self._note(path, start)
        entry = (*path, self._lengths[path] - 1)
        self._note(entry, start)
        return entry

    def _resolve(self, parts: Key, start: int) -> Key:
        """The path of a table header: below a list of tables its last entry is meant."""
        path: Key = ()
        for part in parts:
            path = (*path, part)
            self._note(path, start)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _pair(self, table: Key) -> None:
        start = self.at
        path = table
        for part in self._key():
            path = (*path, part)
            self._note(path, start)
        self.at += 1
        self._skip(_BLANK)
        self._value(path)

    def _key(self) -> Key:
        """A key with its dots, and the blanks around it."""
        parts: list[str | int] = []
        while True:
            self._skip(_BLANK)
            quote = _STRING.match(self.text, self.at)
            if quote:
                parts.append(tomllib.loads(f"key = {quote.group()}")["key"])
                self.at = quote.end()
            else:
                bare = _BARE_KEY.match(self.text, self.at)
                if bare is None:
                    raise ValueError("lost")
                parts.append(bare.group())
                self.at = bare.end()
            self._skip(_BLANK)
            if self.text[self.at] != ".":
                return tuple(parts)
            self.at += 1

    def _value(self, path: Key) -> None:
        char = self.text[self.at]
        if char == "[":
            self._list(path)
        elif char == "{":
            self._inline_table(path)
        else:
            match = _STRING.match(self.text, self.at) or _SCALAR.match(self.text, self.at)
            self.at = match.end() if match else self.at

    def _list(self, path: Key) -> None:
        self.at += 1
        index = 0
        while self._skip(_SPACE) and self.text[self.at] != "]":
            self._note((*path, index), self.at)
            self._value((*path, index))
            index += 1
            self._skip(_SPACE)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _inline_table(self, path: Key) -> None:
        self.at += 1
        while self._skip(_SPACE) and self.text[self.at] != "}":
            self._pair(path)
            self._skip(_SPACE)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _skip(self, what: re.Pattern[str]) -> bool:
        """Go past `what`; false at the end of the text."""
        match = what.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.at < len(self.text)

    def _note(self, path: Key, at: int) -> None:
        self.lines.setdefault(path, self._line(at))

    def _line(self, at: int) -> int:
        return bisect.bisect_left(self._newlines, at) + 1
