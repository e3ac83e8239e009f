"""Waiting until somebody has saved something below some folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from inotify_simple import INotify, flags

_CHANGES = (
    flags.CLOSE_WRITE | flags.CREATE | flags.DELETE | flags.MOVED_FROM | flags.MOVED_TO | flags.ATTRIB | flags.ONLYDIR
)
#: Milliseconds without another change after which a person, or an editor that renames files, is done.
_QUIET = 200


class Saved:
    """Changes below folders, those too that come while nobody waits; a context manager."""

    def __init__(self, *tops: Path) -> None:
        self._tops = tops
        self._inotify = INotify()
        self._watch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inotify.close()

    def wait(self, milliseconds: int | None = None) -> bool:
        """Return when something was changed and then nothing for a moment; False if nothing was changed for so long."""
        if not self._inotify.read(timeout=milliseconds):
            return False
        self._watch()
        while self._inotify.read(timeout=_QUIET):
            self._watch()  # what was made meanwhile in folders that are new is waited for with them
        return True

    def _watch(self) -> None:
        """Watch every folder; one that is watched already stays so."""
        for folder, _, _ in (found for top in self._tops for found in os.walk(top)):
            try:
                self._inotify.add_watch(folder, _CHANGES)
            except FileNotFoundError:
                continue  # it is gone again
