"""What a running cluster writes down: when each machine was in which phase, and what it has come through for good.

The first is a file of JSON lines in the run folder, so that a killed run leaves a readable one.  It is written also
when a phase fails, perhaps because the disk is full: then the reason counts, and not that it could not be noted here.
The second are empty files there, which the next boot takes away with the folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
from collections import deque
from pathlib import Path

from pipeline.report.model import Phase

#: What no other process of ours is called.
THIS_RUN = os.urandom(8).hex()

#: Lines that are read, from the last one on: of a cluster whose machines start again and again for weeks.
_MOST = 20_000


def append(path: Path, *phases: Phase) -> None:
    """Add phases to a timeline."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(dataclasses.asdict(phase)) + "\n" for phase in phases)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def read(path: Path) -> list[Phase]:
    """The phases of a timeline, but for lines that were broken off; none where there is no file."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = deque(file, maxlen=_MOST)
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            found.append(Phase(**json.loads(line)))
    return found


class Notes:
    """What a cluster has come through since it was booted.  A machine's report is begun anew whenever it starts, and
    cannot tell: `installed/NODE` stays, whatever becomes of the node.  `begun/NODE`: its installation was.
    `again/NODE`: somebody wants it to be installed once more, instead of its next start.

    `booted-by/RUN`, `verified-by/RUN`: which run of ours has done that (`THIS_RUN`).

    `up`: its first start came to a good end.  `deployed`: since its nodes were started last, the OPKGs have been told.
    `renamed`: the head node has been told that the cluster has changed, and the nodes have not.
    """

    def __init__(self, run_dir: Path) -> None:
        self._folder = run_dir

    def has(self, note: str) -> bool:
        return (self._folder / note).exists()

    def add(self, note: str) -> None:
        path = self._folder / note
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def remove(self, note: str) -> None:
        (self._folder / note).unlink(missing_ok=True)
