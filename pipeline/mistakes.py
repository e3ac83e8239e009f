"""How a mistake in a recipe is told: where it is, what is wrong, what was expected, and the nearest right word.

A file is checked to its end and all its mistakes are told at once, one line each.  A mistake is refused (`fail`), or
warned of where the recipe can be used all the same: then it stands in the `warnings` of what was read, and the plan
carries it to every run.  Nothing here needs pydantic, so that reading OPKGs stays cheap.
"""

from __future__ import annotations

import datetime
import difflib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pipeline.errors import ManifestError, NotThere

Key = tuple[str | int, ...]
T = TypeVar("T")

_LONGEST = 60


@dataclass(frozen=True, order=True)
class Mistake:
    """One mistake: `field` is a dotted path, or "" where the file as a whole is meant."""

    file: str
    line: int
    field: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: " + (f"{self.field}: " if self.field else "") + self.text


class Faults(ValueError):
    """Mistakes found between fields: each is a key path, relative to the table being checked, and a text."""

    def __init__(self, faults: Iterable[tuple[Key, str]]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(text for _, text in self.faults))


class _Mistakes(ManifestError):
    """A ManifestError that still knows its mistakes one by one."""

    mistakes: tuple[Mistake, ...] = ()


def fail(mistakes: Iterable[Mistake]) -> NoReturn:
    """Raise one ManifestError for all of them, by file and line."""
    found = sorted(set(mistakes))
    error = _Mistakes("\n".join(map(str, found)))
    error.mistakes = tuple(found)
    raise error


class Collector:
    """Runs several checks and raises once, at the end, whatever mistakes they had."""

    def __init__(self, mistakes: Iterable[Mistake] = ()) -> None:
        self._mistakes = list(mistakes)

    def attempt(self, check: Callable[[], T]) -> T | None:
        """What `check` returns, or None after keeping its mistakes."""
        try:
            return check()
        except _Mistakes as error:
            self._mistakes += error.mistakes
            return None

    def finish(self) -> None:
        if self._mistakes:
            fail(self._mistakes)


def shown(path: Path) -> str:
    """A path as a person knows it: relative to where they are if it is below, and printable."""
    text = os.path.abspath(path)
    here = os.getcwd() + os.sep
    return printable(text.removeprefix(here))


def printable(text: str) -> str:
    """`text` with everything a terminal could misread escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape", "replace").decode() for char in text)


def quoted(value: Any) -> str:
    """A value as it would stand in TOML, short enough for a message."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int):
        text = str(value) if value.bit_length() <= 64 else f"a number of {value.bit_length()} bits"
    elif isinstance(value, float | datetime.date | datetime.time):
        text = str(value)
    elif isinstance(value, list):
        text = "a list"
    else:
        text = "a table"
    return printable(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def nearest(word: object, options: Iterable[str], likeness: float = 0.6) -> str | None:
    """The option that was probably meant by `word`; they must be that much alike, from 0 to 1."""
    if not isinstance(word, str):
        return None
    known = {option.lower(): option for option in options}
    close = difflib.get_close_matches(word[:200].lower(), known, n=1, cutoff=likeness)
    return known[close[0]] if close else None


def no_such(what: str, name: str, known: Iterable[str]) -> NotThere:
    """The error for a name that is none, with the nearest ones that are."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, cutoff=0.5)
    return NotThere(
        f"there is no {what} {name!r}",
        hint=f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names)}",
    )


def did_you_mean(word: object, options: Iterable[str]) -> str:
    """`; did you mean "..."?`, or nothing where no option is near."""
    near = nearest(word, options)
    return f"; did you mean {quoted(near)}?" if near is not None else ""


def listing(options: Iterable[str]) -> str:
    """Options as a message lists them."""
    words = sorted(options)
    return ", ".join(words) if words else "(there are none)"
