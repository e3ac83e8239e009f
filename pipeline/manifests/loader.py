"""TOML file -> checked manifest; every mistake of the file at once, each with its line.

A file may say `extends = "other"`: then it lies over that file, table by table, and a mistake is reported where it was
written, in this file or in the other one.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.manifests.positions import positions
from pipeline.mistakes import Faults, Key, Mistake, did_you_mean, fail, listing, printable, quoted, shown

_LIMIT = 1 << 20

_BARE = re.compile(r"[A-Za-z0-9_-]+")


class Manifest(BaseModel):
    """What every kind of manifest has: a name, which is its file's and never written in it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str


class Table(BaseModel):
    """A table inside a manifest."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


M = TypeVar("M", bound=Manifest)


@dataclass(frozen=True)
class Document:
    """What stands in a file (or in a file and those it extends), and where each piece of it was written."""

    file: Path
    data: dict[str, Any]
    places: dict[Key, tuple[Path, int]]

    def mistake(self, key: Key, text: str) -> Mistake:
        """A mistake at `key`, with the place of `key` or else of what it stands in."""
        near = key
        while near and near not in self.places:
            near = near[:-1]
        file, line = self.places.get(near, (self.file, 1))
        return Mistake(shown(file), line, dotted(key), text)


def read(file: Path, draft: str | None = None) -> Document:
    """Read one file, or what it would be with the text `draft`; whatever is wrong with it is a ManifestError."""
    text = text_of(file) if draft is None else draft
    try:
        data = tomllib.loads(text)
    except RecursionError:
        _refuse(file, 1, "tables or lists stand too deep in one another")
    except ValueError as error:
        match = re.search(r"\(at line (\d+), column (\d+)\)|\(at end of document\)", str(error))
        line = int(match[1]) if match and match[1] else text.count("\n") + 1 if match else 1
        reason = str(error)[: match.start()].strip() if match else "a number is too long"
        column = f" (column {match[2]})" if match and match[2] else ""
        _refuse(file, line, f"this is not TOML: {printable(reason)}{column}")
    places: dict[Key, tuple[Path, int]] = {key: (file, line) for key, line in positions(text).items()}
    return Document(file, data, places)


def text_of(file: Path) -> str:
    """The text of a file that a person has written; raises ManifestError where it is none."""
    raw = content_of(file)
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        _refuse(file, raw.count(b"\n", 0, error.start) + 1, "not UTF-8 text; expected the encoding UTF-8")


def content_of(file: Path) -> bytes:
    """The bytes of a file that a person has written; raises ManifestError for what is none."""
    try:
        if file.exists() and not file.is_file():
            _refuse(file, 1, "a folder or a special file; expected a text file")
        with file.open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
    except (OSError, ValueError) as error:
        _refuse(file, 1, f"cannot be read: {getattr(error, 'strerror', None) or error}")
    if len(raw) > _LIMIT:
        _refuse(file, 1, "larger than 1 MiB; expected a manifest written by a person")
    return raw


def _refuse(file: Path, line: int, text: str) -> NoReturn:
    fail([Mistake(shown(file), line, "", text)])


def extended(
    file: Path,
    find: Callable[[str], Path | None],
    names: Iterable[str],
    prepare: Callable[[Document], None],
    drafts: Mapping[Path, str] = MappingProxyType({}),
) -> Document:
    """Read `file` and what it extends, laid over each other.

    `find` gives the file of a name and `names` all of them; `prepare` may rewrite a document before others lie over it.
    `drafts` are read in place of what their files hold.
    """
    document = read(file, drafts.get(file))
    prepare(document)
    seen = [file]
    while "extends" in document.data:
        base = document.data["extends"]
        below = find(base) if isinstance(base, str) else None
        if below is None:
            text = f"{quoted(base)} is not known; expected one of {listing(names)}{did_you_mean(base, names)}"
            fail([document.mistake(("extends",), text)])
        if below in seen:
            circle = " -> ".join(path.stem for path in [*seen[seen.index(below) :], below])
            fail([document.mistake(("extends",), f"goes in a circle: {circle}")])
        seen.append(below)
        lower = read(below, drafts.get(below))
        prepare(lower)
        upper = {key: value for key, value in document.data.items() if key != "extends"}
        places = {key: place for key, place in document.places.items() if key != ("extends",)}
        document = _over(lower, Document(file, upper, places))
    return document


def _over(lower: Document, upper: Document) -> Document:
    """Tables are merged; anything else of `upper` hides what `lower` has there."""
    hidden: set[Key] = set()

    def merged(below: dict[str, Any], above: dict[str, Any], key: Key) -> dict[str, Any]:
        result = dict(below)
        for name, value in above.items():
            path = (*key, name)
            if isinstance(value, dict) and isinstance(below.get(name), dict):
                result[name] = merged(below[name], value, path)
            else:
                result[name] = value
                hidden.add(path)
        return result

    data = merged(lower.data, upper.data, ())
    left = {
        key: place
        for key, place in lower.places.items()
        if not any(key[:length] in hidden for length in range(1, len(key) + 1))
    }
    return Document(upper.file, data, {**left, **upper.places})


def validate(document: Document, model: type[M]) -> M:
    """The manifest of that kind; all mistakes in one ManifestError."""
    name = document.file.stem
    mistakes: list[Mistake] = []
    if "name" in document.data:
        mistakes.append(document.mistake(("name",), f"unknown field; the name is the file's own: {quoted(name)}"))
    try:
        manifest = model.model_validate({**document.data, "name": name})
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            mistakes += _told(document, model, dict(problem))
    except RecursionError:
        mistakes.append(document.mistake((), "tables or lists stand too deep in one another"))
    if mistakes:
        fail(mistakes)
    return manifest


def _told(document: Document, model: type[BaseModel], problem: dict[str, Any]) -> list[Mistake]:
    """One pydantic error as a person should read it."""
    key: Key = tuple(problem["loc"])
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, Faults):
        return [document.mistake((*key, *more), text) for more, text in cause.faults]
    kind, value, ctx = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "extra_forbidden":
        fields = _fields(model, key[:-1])
        hint = _elsewhere(model, str(key[-1])) or did_you_mean(key[-1], fields)
        text = f"unknown field; expected one of {listing(fields)}{hint}"
    elif kind == "missing":
        text = f"missing; expected {_meaning(model, key)}"
    elif cause is not None:
        text = str(cause)
    elif kind == "literal_error":
        options = re.findall(r"'([^']*)'", ctx["expected"])
        wanted = " or ".join(quoted(option) for option in options)
        text = f"{quoted(value)} is not known; expected {wanted}{did_you_mean(value, options)}"
    elif kind in _WANTED:
        what = f"this is {_kind(value)}" if isinstance(value, dict | list) else f"{quoted(value)} is {_kind(value)}"
        text = f"{what}; expected {_WANTED[kind]}" + (f": {_meaning(model, key)}" if key else "")
    elif kind in _BOUNDS:
        text = f"{quoted(value)} is out of range; expected {_BOUNDS[kind].format(**ctx)}"
    else:
        text = f"{quoted(value)}: {printable(problem['msg'])}"
    return [document.mistake(key, text)]


#: What pydantic's error types mean to the author of a manifest.
_WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a table",
    "model_attributes_type": "a table",
}
_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "int_parsing_size": "a smaller number",
}


def _kind(value: object) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date or time")


def _meaning(model: type[BaseModel], key: Key) -> str:
    """What a field is for: its doc string, as a clause."""
    if isinstance(key[-1], int):
        return f"one of {_meaning(model, key[:-1])}"
    table = _table(model, key[:-1])
    if table is None:
        return ""
    from pipeline.manifests import meaning  # only where there is a mistake to be told

    told = meaning.of(table, str(key[-1]))
    return told[:1].lower() + told[1:].rstrip(".")


def _fields(model: type[BaseModel], key: Key) -> list[str]:
    table = _table(model, key)
    return [name for name in table.model_fields if name != "name" or key] if table else []


def _elsewhere(model: type[BaseModel], field: str) -> str:
    """A hint for a field that stands in the wrong table."""
    tables = [name for name in model.model_fields if field in _fields(model, (name,))]
    return f"; did you mean {' or '.join(f'{table}.{field}' for table in tables)}?" if tables else ""


def _table(model: type[BaseModel], key: Key) -> type[BaseModel] | None:
    """The model of the table at `key`."""
    current: Any = model
    for part in key:
        if isinstance(part, int):
            current = next((item for item in get_args(current) if item is not Ellipsis), None)
        elif get_origin(current) is dict:
            current = get_args(current)[1]
        elif isinstance(current, type) and issubclass(current, BaseModel) and part in current.model_fields:
            current = current.model_fields[part].annotation
        else:
            return None
        current = _plain(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _plain(annotation: Any) -> Any:
    """An annotation without `Annotated` and without `| None`."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = _plain(next(item for item in get_args(annotation) if item is not type(None)))
    return annotation


def dotted(key: Key) -> str:
    """A key path as TOML writes it, list entries counted from 0."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else quoted(part))
    return text


def relative_to_file(document: Document, value: str) -> str:
    """A path written in a manifest, taken from the folder of that manifest."""
    return os.path.normpath(document.file.absolute().parent / value)
