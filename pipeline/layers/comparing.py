"""What a tree changes of the one below it: names that a layer writes, and names that it removes.

What is equal below is in no layer: content, access, time, attributes, holes, and of which names a file is one.
"""

from __future__ import annotations

import filecmp
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import inventory, sandbox
from pipeline.layers import refused, volatile

#: Mode, owner and group of the top folder where nobody has changed them.
_TOP = (stat.S_IFDIR | 0o755, 0, 0)


@dataclass
class Change:
    """What a layer says: names to write from the upper tree, names to remove.

    `linked` are the names of files with several names that are one file below too, `below` are all such names there,
    `secrets` are the names that no layer of a cluster's holds.
    """

    linked: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def compared(
    upper: Path, lower: Path | None, together: Sequence[Sequence[str]], secrets: Iterable[str], *, whole: bool
) -> Change:
    """How the tree `upper` changes `lower`: it lies over it, or (`whole`) stands in its place.

    `together` are the names of each file that has several in `lower`, `secrets` names that no layer holds.
    """
    change = Change(
        _linked_alike(upper, together), frozenset(name for names in together for name in names), frozenset(secrets)
    )
    _compare(change, upper, lower, "", hidden=whole)
    return change


def _compare(change: Change, upper: Path, lower: Path | None, below: str, *, hidden: bool) -> bool:
    """Note how the directory `upper` changes `lower`; whether there was anything to note.

    `hidden` says that the upper directory replaces the lower one: what it does not hold is gone.
    """
    before = len(change.written), len(change.removed)
    with os.scandir(upper) as entries:
        names = {entry.name: entry for entry in entries}
    for name in sorted(names, key=os.fsencode):
        path = f"{below}{name}"
        if path in change.secrets or volatile.left_out(path, names[name]):
            continue
        found = names[name].stat(follow_symlinks=False)
        under = _lstat(lower / name) if lower else None
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            if under:
                change.removed.append(path)
            continue
        if stat.S_ISDIR(found.st_mode):
            over = lower / name if lower and under and stat.S_ISDIR(under.st_mode) else None
            place = len(change.written)
            inside = _compare(
                change, upper / name, over, f"{path}/", hidden=over is not None and (hidden or _is_opaque(upper / name))
            )
            if inside or over is None or not under or not _same_folder(upper / name, found, over, under):
                change.written.insert(place, path)
        elif not stat.S_ISSOCK(found.st_mode):  # which belongs to a running machine
            alike = path in change.linked if inventory.has_names(found) else path not in change.below
            if not (under and lower and alike and _equal(upper / name, found, lower / name, under)):
                change.written.append(path)
    if hidden and lower:
        with os.scandir(lower) as entries:
            change.removed += [
                f"{below}{entry.name}"
                for entry in entries
                if entry.name not in names and not volatile.left_out(f"{below}{entry.name}", entry)
            ]
    if not below and (_access(upper.lstat()), inventory.attributes(upper)) != (_TOP, {}):
        change.written.insert(0, "")  # in every layer: the topmost one counts
    return (len(change.written), len(change.removed)) != before


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, f"{refused.notes()}opaque") == b"y"
    except OSError:
        return False


def _access(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _time(found: os.stat_result) -> int:
    return min(found.st_mtime_ns // 10**9, sandbox.SOURCE_DATE_EPOCH)


def _same_folder(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a folder is what it was.  What is made or removed in it changes its time to now, which says nothing."""
    return (
        _access(found) == _access(under)
        and _time(found) in (_time(under), sandbox.SOURCE_DATE_EPOCH)
        and inventory.attributes(upper) == inventory.attributes(lower)
    )


def _equal(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a file is what it was: content, access, time, attributes and holes."""
    if (_access(found), found.st_size, _time(found)) != (_access(under), under.st_size, _time(under)):
        return False
    if stat.S_ISLNK(found.st_mode):
        return upper.readlink() == lower.readlink()
    if inventory.attributes(upper) != inventory.attributes(lower):
        return False
    return not stat.S_ISREG(found.st_mode) or (
        bool(inventory.holes(upper, found)) == bool(inventory.holes(lower, under))
        and filecmp.cmp(upper, lower, shallow=False)
    )


def _linked_alike(upper: Path, together: Sequence[Sequence[str]]) -> frozenset[str]:
    """The names, in `upper`, of files with several names of which all are names of one file below too."""
    below = {name: number for number, names in enumerate(together) for name in names}
    groups: dict[int, list[str]] = {}
    for name, found in _files(upper, "") if below else ():
        if inventory.has_names(found):
            groups.setdefault(found.st_ino, []).append(name)
    return frozenset(
        name
        for names in groups.values()
        if len({below.get(name, -1) for name in names}) == 1
        for name in names
        if name in below
    )


def _files(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """All that is in a tree but folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}", entry.stat(follow_symlinks=False)
