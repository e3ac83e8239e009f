"""Recipes that a command edits: what a person has written around it, comments, order and notation, stays as it is.

The manifest's own checks judge the text before anything is written, and it is written whole or not at all.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import tomllib
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from pipeline.errors import ManifestError
from pipeline.files import write_whole
from pipeline.manifests import loader
from pipeline.manifests.positions import positions
from pipeline.mistakes import Key, quoted, shown


def edited(text: str, changes: Mapping[Key, str | int | None]) -> str:
    """The text of a TOML file with these values; None takes one away, and with the last one its table.

    Raises ValueError where the text is written in a way that cannot be edited so.
    """
    for key, value in changes.items():
        if value is None and (emptied := _emptied(tomllib.loads(text), key)) != key:
            text = without(text, emptied)  # tomlkit would take along what stands above the next table
    return _by_tomlkit(text, changes)


def _by_tomlkit(text: str, changes: Mapping[Key, str | int | None]) -> str:
    wanted = tomllib.loads(text)
    for key, value in changes.items():
        _change(wanted, key, value)
    # tomlkit does not know all ways to write a table: what it has made of one is not believed
    try:
        document = tomlkit.parse(text)
        for key, value in changes.items():
            _change(document, key, value)
        result = tomlkit.dumps(document)
        if not text.endswith("\n\n"):
            result = result.rstrip("\n") + "\n"
        if tomllib.loads(result) == wanted:
            return result
    except (tomllib.TOMLDecodeError, TOMLKitError):
        pass
    raise ValueError("its tables are written in a way that no command can edit")


def without(text: str, table: Key) -> str:
    """The text without a table and those in it; remarks right above one's line go with it, and nothing else does.

    Raises ValueError where the text is written in a way that cannot be edited so.
    """
    wanted = tomllib.loads(text)
    _change(wanted, table, None)
    lines, places = list(io.StringIO(text, newline="\n")), positions(text)
    headers = sorted({line for line in places.values() if lines[line - 1].lstrip().startswith("[")})
    gone: set[int] = set()
    for key, first in places.items():
        if key[: len(table)] == table and first in headers:
            end = next((line for line in headers if line > first), len(lines) + 1)
            while end - 1 > first and _is_between(lines[end - 2]):
                end -= 1  # what stands above the next table is that one's
            above = first
            while above > 1 and lines[above - 2].lstrip().startswith("#"):
                above -= 1
            first = above if above > 1 else first  # a remark in the first line is about the whole file
            if end <= len(lines) and not lines[end - 1].strip():
                end += 1
            gone.update(range(first, end))
    result = "".join(line for number, line in enumerate(lines, 1) if number not in gone).rstrip("\n") + "\n"
    with contextlib.suppress(tomllib.TOMLDecodeError):
        found = tomllib.loads(result)
        _prune(found, table)
        if found == wanted:
            return result
    return _by_tomlkit(text, {table: None})


def _emptied(data: Mapping[str, Any], key: Key) -> Key:
    """The table with nothing in it but what leads to a key, if the key is there; else the key."""
    found, first = data, len(key)
    for number, part in enumerate(key):
        if not isinstance(found, Mapping) or str(part) not in found:
            return key
        if len(found) > 1:
            first = len(key)
        elif number and first == len(key):
            first = number
        found = found[str(part)]
    return key[:first]


def _is_between(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _prune(data: MutableMapping[str, Any], key: Key) -> None:
    """Take away the tables that lead to a key, if they are empty."""
    if len(key) > 1 and str(key[0]) in data:
        inner = data[str(key[0])]
        _prune(inner, key[1:])
        if not inner:
            del data[str(key[0])]


def _change(table: MutableMapping[str, Any], key: Key, value: str | int | None) -> None:
    name, more = str(key[0]), key[1:]
    if not more:
        if value is None:
            table.pop(name, None)
        elif isinstance(table, Table) and name not in table:
            _add(table, name, value)
        else:
            table[name] = value
        return
    if name not in table:
        if value is None:
            return
        if isinstance(table, tomlkit.TOMLDocument | Table):
            _append(table, name, _table(len(more) > 1))
        else:
            table[name] = {}
    _change(table[name], more, value)
    if value is None and not table[name]:
        table.pop(name)


def _table(is_super: bool) -> Table:
    """A new table; one that has tables alone needs no line of its own."""
    made = tomlkit.table(is_super_table=is_super)
    if not is_super:
        made.add(tomlkit.nl())  # between it and what follows
    return made


def _append(table: tomlkit.TOMLDocument | Table, name: str, new: Table) -> None:
    """A table behind those that are there."""
    last = table if isinstance(table, Table) else None
    while last is not None and last.value.body and isinstance(last.value.body[-1][1], Table):
        last = last.value.body[-1][1]
    tail = _tail(last) if last is not None and not last.is_super_table() else []
    table.append(name, new)
    if tail:
        new.value.body[:] = tail


def _add(table: Table, name: str, value: str | int) -> None:
    """A key behind the last one."""
    tail = _tail(table)
    table.append(name, value)
    table.value.body.extend(tail)


def _tail(table: Table) -> list[Any]:
    """What stands between the last key of a table and the next table: it belongs there, and is taken away here."""
    body = table.value.body
    last = max((index for index, (key, _) in enumerate(body) if key is not None), default=-1)
    tail = body[last + 1 :]
    del body[last + 1 :]
    return tail


def read(file: Path) -> str:
    """The text of a recipe, as `edited` takes it."""
    return loader.text_of(file)


def write(file: Path, text: str) -> None:
    """Write a recipe anew, with the line ends and the mode that it had, and where a link leads to."""
    place = file.resolve()
    before, owner = place.read_bytes(), place.stat()
    data = text.encode()
    if before.count(b"\r\n") == before.count(b"\n") > 0:
        data = data.replace(b"\n", b"\r\n")
    if before.startswith(codecs.BOM_UTF8):
        data = codecs.BOM_UTF8 + data
    write_whole(place, data, mode=owner.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(place, owner.st_uid, owner.st_gid)


def refused(file: Path, why: ValueError, changes: Mapping[Key, str | int | None]) -> ManifestError:
    """The error for one that cannot be edited: who has written it so can."""
    words = [f"{loader.dotted(key)} = {quoted(value)}" for key, value in changes.items() if value is not None]
    hint = f"write there yourself: {'; '.join(words)}" if words else ""
    return ManifestError(f"{shown(file)}: {why}", hint=hint)
