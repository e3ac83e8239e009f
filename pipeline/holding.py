"""Who uses which entries of the store: nothing that is in use is removed, whoever removes it.

Every process that reads entries, and every cluster that runs on some, has a file `store/.using/NAME` that lists their
keys, and holds a lock on it for as long as it lives; a file without a holder is that of one who has ended.  Entries
are taken out of sight under one lock for the whole store (`changing`), which is held for moments, and whoever begins to
use one notes it under the same lock, shared: so between looking and removing nobody can begin.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.locks import Busy, locked

#: Shells that are handed the descriptor use low ones for themselves.
_HIGH = 64


def changing(root: Path, *, shared: bool = False) -> AbstractContextManager[None]:
    """While the block lasts nobody takes entries of the store at `root` out of sight (`shared`), or only we do."""
    folder = root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    return locked(folder / "changing", shared=shared)


class Holder:
    """What one user of the store holds, until `close`, or until the last process that has the descriptor has ended."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folder = root / ".using"
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / os.urandom(16).hex()
        with changing(root, shared=True):  # else it could be taken for one that has been left
            opened = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC)
            self._descriptor = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, _HIGH)
            os.close(opened)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._keys: set[str] = set()

    def fileno(self) -> int:
        """The descriptor to hand on to a process that shall go on holding."""
        return self._descriptor

    def hold(self, keys: Iterable[str]) -> bool:
        """Hold entries; false, and nothing more is held, if one of them is gone."""
        new = set(keys) - self._keys
        if not new:
            return True
        with changing(self.root, shared=True):
            if not all((self.root / key).is_dir() for key in new):
                return False
            os.write(self._descriptor, "".join(f"{key}\n" for key in sorted(new)).encode())
        self._keys |= new
        return True

    def removed(self, key: str) -> None:
        """An entry that was held has been taken out by its holder."""
        self._keys.discard(key)

    def close(self) -> None:
        """Hold nothing any more."""
        with contextlib.suppress(OSError):
            self.file.unlink()
        os.close(self._descriptor)

    def hand_over(self) -> None:
        """From now on only processes that were given the descriptor hold."""
        os.close(self._descriptor)


def in_use(root: Path, but: Path | None = None) -> set[str]:
    """The keys that somebody holds; to be asked while `changing` is held.  The file `but` does not count."""
    return {key for file in _held(root) if file != but for key in file.read_text().split()}


def _held(root: Path) -> Iterator[Path]:
    """The files that have a holder; the others are removed."""
    for file in (root / ".using").glob("*"):
        try:
            with locked(file, within=0):
                file.unlink()
        except Busy:
            yield file
