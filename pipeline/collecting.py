"""Keeping the artifacts folder small: what goes when it holds more than it should, least recently used first.

What may go: entries of the store that nobody holds (`holding`: builds, this run's recipes, running clusters), what
failed builds left, corrupt entries, run folders of clusters that do not run, frozen clusters, packages of the pool that
no entry shows.  What a frozen cluster stands on is held as long as that is there.
Several may collect at once, and be killed at any moment: whatever goes is taken out of sight first, and one collector
is enough at a time.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pipeline import checkout, frozen
from pipeline.holding import changing, in_use
from pipeline.locks import Busy, locked
from pipeline.store import Store, remove

#: An inode, and the bytes that it takes on disk.
_Inode = tuple[int, int, int]


@dataclass(frozen=True)
class Piece:
    """Something that takes space: when it was last used (seconds since the epoch), and how to remove it.

    `remove` says whether it is gone.
    """

    path: Path
    used: float
    remove: Callable[[], bool]
    inodes: frozenset[_Inode] = field(repr=False)


@dataclass(frozen=True)
class Collected:
    """What was removed, and bytes: freed, and left of all that is bounded."""

    gone: tuple[Path, ...]
    freed: int
    left: int


def collect(store: Store, limit: int, idle: Iterable[tuple[Path, Callable[[], bool]]] = ()) -> Collected:
    """Come down to `limit` bytes, as far as nobody's use forbids; leftovers of killed runs go in any case.

    `idle` are run folders of clusters that do not run, and how to remove each.  Where another run is collecting
    already nothing is done.
    """
    locks = store.root / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    try:
        with locked(locks / "collecting", within=0):
            store.clear_leftovers()
            frozen.clear_leftovers(store.artifacts)
            return _come_down(store, limit, list(_pieces(store, idle)))
    except Busy:
        return Collected((), 0, 0)


def _come_down(store: Store, limit: int, pieces: list[Piece]) -> Collected:
    users = Counter(inode for piece in pieces for inode in piece.inodes)  # packages are in the pool and in entries
    total = before = sum(size for _, _, size in users)
    gone = []
    for piece in sorted(pieces, key=lambda piece: piece.used):
        if total <= limit:
            break
        if piece.remove():
            gone.append(piece.path)
            users.subtract(piece.inodes)
            total -= sum(inode[2] for inode in piece.inodes if users[inode] == 0)
    return Collected(tuple(gone), before - total, total)


def _pieces(store: Store, idle: Iterable[tuple[Path, Callable[[], bool]]]) -> Iterator[Piece]:
    with changing(store.root, shared=True):
        held = in_use(store.root) | frozen.held(store.artifacts)
    shown: dict[_Inode, float] = {}
    for entry in store.entries():
        piece = _piece(entry.folder, partial(_remove_entry, store, entry.key, held))
        shown.update((inode, max(piece.used, shown.get(inode, 0))) for inode in piece.inodes)
        yield piece
    for folder in (*(own / "failed" for own in checkout.own_folders(store.artifacts)), store.root / ".corrupt"):
        yield from (_piece(path, partial(_remove, path)) for path in _entries(folder))
    for path in frozen.folders(store.artifacts):
        yield _piece(path, partial(_remove, path))
    for path, away in idle:
        yield _piece(path, away)
    pool = store.artifacts / "pool"
    for path in _entries(pool):
        if not path.name.startswith("."):
            piece = _piece(path, partial(_remove_unshown, pool, path))
            # a package goes after the last entry that shows it
            yield replace(piece, used=max((shown[inode] for inode in piece.inodes & shown.keys()), default=piece.used))


def _piece(path: Path, away: Callable[[], bool]) -> Piece:
    try:
        used = path.lstat().st_mtime
    except FileNotFoundError:
        used = 0
    return Piece(path, used, away, frozenset(_inodes(path)))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _inodes(path: Path) -> Iterator[_Inode]:
    """All files of a tree; what vanishes meanwhile or may not be read counts as nothing."""
    pending = [str(path)]
    while pending:
        name = pending.pop()
        with contextlib.suppress(OSError):
            status = os.lstat(name)
            yield status.st_dev, status.st_ino, status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                pending += [entry.path for entry in os.scandir(name)]


def _remove_entry(store: Store, key: str, held: Container[str]) -> bool:
    """Remove an entry unless somebody held it when collecting began, or does so by now."""
    return key not in held and store.remove(key)


def _remove(path: Path) -> bool:
    remove(path)
    return True


def _remove_unshown(pool: Path, path: Path) -> bool:
    """Remove a package unless an entry shows it, or one that is being fetched is about to."""
    with contextlib.suppress(Busy, FileNotFoundError), locked(pool / ".lock", within=0):
        if path.stat().st_nlink == 1:
            path.unlink()
            return True
    return False
