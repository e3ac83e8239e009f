"""Inventories as they stand in files: a line a name, of which no more is read than is asked for.

Of twenty thousand names a step hands most on as they are, or finds them equal to what there was before; both is told by
their text.  A line is JSON: the path, and what `inventory.Entry` says of it but for what is empty; a path alone is a
name that is gone.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Generic, TypeVar

from pipeline.inventory import Changes, Entry, Tree

#: An entry, or an entry or None.
_E = TypeVar("_E", Entry, Entry | None)

#: How a line begins, before the path and its quotation mark; what follows that one where the name is gone.
_BEGIN, _GONE = '{"path": "', "}"
#: What follows it where it is a folder, and the beginning of the word for a file's other names.  Neither can be part of
#: a path or value: there a quotation mark has a backslash in front.
_FOLDER, _INODE = ', "type": "d"', ', "inode": "'
#: Bytes that are no UTF-8.
_ODD = re.compile("[\udc80-\udcff]")
#: Paths that stand in JSON as they are.
_PLAIN = re.compile(r"[ !#-\[\]-~]*")

_FIELDS = Entry._fields


class Listing(Mapping[str, _E], Generic[_E]):
    """Names and what is said of each.  Not to be changed; what has been read is kept."""

    def __init__(self, rests: dict[str, str]) -> None:
        """`rests` is, by path, what stands in its line after the path."""
        self.rests = rests
        self._read: dict[str, Any] = {}

    def __getitem__(self, path: str) -> _E:
        if path not in self._read:
            self._read[path] = _entry(self.rests[path])
        found: _E = self._read[path]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.rests)

    def __len__(self) -> int:
        return len(self.rests)

    def __contains__(self, path: object) -> bool:
        return path in self.rests

    def keys(self) -> KeysView[str]:
        return self.rests.keys()

    def items(self) -> ItemsView[str, _E]:
        return self._all().items()

    def values(self) -> ValuesView[_E]:
        return self._all().values()

    def _all(self) -> dict[str, _E]:
        if len(self._read) < len(self.rests):
            texts = (f"{{{rest[2:]}" if rest != _GONE else "null" for rest in self.rests.values())
            records = json.loads(f"[{','.join(texts)}]")
            entries = [None if record is None else Entry(**record) for record in records]
            self._read = dict(zip(self.rests, entries, strict=True))
        return self._read

    def __or__(self, others: Mapping[str, _E]) -> Listing[_E]:
        """With other names, which count where both have them."""
        return Listing({**self.rests, **listed(others).rests})


def listed(entries: Mapping[str, _E]) -> Listing[_E]:
    """As a listing."""
    if isinstance(entries, Listing):
        return entries
    return Listing({path: _rest(entry) for path, entry in entries.items()})


def _entry(rest: str) -> Entry | None:
    return None if rest == _GONE else Entry(**json.loads(f"{{{rest[2:]}"))


def _rest(entry: Entry | None) -> str:
    if entry is None:
        return _GONE
    record = {name: value for name, value in zip(_FIELDS, entry, strict=True) if value}
    return f", {json.dumps(record)[1:]}"


#: The top folder where no layer says anything else.
_TOP = _rest(Entry("d", 0o755))


# --- files


def dump(changes: Mapping[str, Entry | None] | Mapping[str, Entry]) -> str:
    """As lines of JSON, sorted by path; names of any bytes survive."""
    rests = listed(changes).rests
    plain = _PLAIN.fullmatch
    return "".join(
        [
            f'{_BEGIN}{path}"{rests[path]}\n' if plain(path) else f'{{"path": {json.dumps(path)}{rests[path]}\n'
            for path in ordered(rests)
        ]
    )


def ordered(paths: Collection[str], key: Callable[[str], str] = str) -> list[str]:
    """Sorted by their bytes; `key` may exchange characters before."""
    if _ODD.search("".join(paths)):
        return sorted(paths, key=lambda path: os.fsencode(key(path)))
    return sorted(paths, key=key)  # characters are in the same order as what UTF-8 makes of them


def load(text: str) -> Listing[Entry | None]:
    """What `dump` wrote; ValueError if that cannot be."""
    rests = {}
    for line in text.splitlines():
        path, quote, rest = line.removeprefix(_BEGIN).partition('"')
        if "\\" in path:
            path, end = json.JSONDecoder().raw_decode(line, len(_BEGIN) - 1)
            rest = line[end:]
        if not (quote and line.startswith(_BEGIN) and line.endswith("}")):
            raise ValueError(line)
        rests[path] = rest
    return Listing(rests)


def tree(text: str) -> Listing[Entry]:
    """What `dump` wrote of a whole tree, in which nothing is gone."""
    return Listing(load(text).rests)


# --- what they say together


def stacked(layers: Iterable[Changes]) -> Listing[Entry]:
    """What a stack of layers holds, the lowest given first.  The top folder is as the topmost layer has it."""
    rests = {"": _TOP}
    for number, changes in enumerate(layers):
        above = listed(changes).rests
        rests[""] = _TOP
        hidden = {
            path
            for path in rests.keys() & above.keys()
            if above[path] == _GONE or (rests[path].startswith(_FOLDER) and not above[path].startswith(_FOLDER))
        }
        if hidden:
            within = tuple(f"{path}/" for path in hidden if rests[path].startswith(_FOLDER))
            rests = {path: rest for path, rest in rests.items() if path not in hidden and not path.startswith(within)}
        rests |= _renamed(f"{number}/", {path: rest for path, rest in above.items() if rest != _GONE})
    return Listing(rests)


def _renamed(mark: str, rests: dict[str, str]) -> dict[str, str]:
    """With the words for files' other names marked: those of another inventory may be the same, of other files."""
    return {
        path: rest.replace(_INODE, f"{_INODE}{mark}", 1) if _INODE in rest else rest for path, rest in rests.items()
    }


def below(tree: Tree, place: str, without: Iterable[str] = ()) -> Listing[Entry]:
    """What lies below an absolute path, as seen from there, but for what is in the folders `without` (absolute, as seen
    from there)."""
    rests = listed(tree).rests
    top = place.strip("/")
    before = f"{top}/" if top else ""
    outside = tuple(f"{before}{path.lstrip('/')}/" for path in without)
    if not (before or outside) and "" in rests:
        return listed(tree)
    found = {
        path.removeprefix(before): rest
        for path, rest in rests.items()
        if path.startswith(before) and path != top and not path.startswith(outside)
    }
    return Listing({"": rests.get(top, _TOP), **found})


def placed(folder: str, tree: Tree) -> Listing[Entry]:
    """A tree as part of a larger one."""
    rests = _renamed(f"{folder}:", listed(tree).rests)
    return Listing({f"{folder}/{path}".rstrip("/"): rest for path, rest in rests.items()})


def differing(before: Tree, after: Tree) -> set[str]:
    """The paths of which two trees do not say the same."""
    old, new = listed(before).rests, listed(after).rests
    return {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}


def names_of_one_file(tree: Tree) -> list[list[str]]:
    """The names that are one file, for each file that has more than one; sorted."""
    groups: dict[str, list[str]] = {}
    several = [path for path, rest in tree.rests.items() if _INODE in rest] if isinstance(tree, Listing) else tree
    for path in ordered(several):
        if tree[path].inode:
            groups.setdefault(tree[path].inode, []).append(path)
    return [group for group in groups.values() if len(group) > 1]
