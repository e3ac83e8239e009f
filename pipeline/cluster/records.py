"""What a running cluster writes down: when each machine was in which phase, and what it has come through for good.

The first is a file of JSON lines in the run folder, so that a killed run leaves a readable one; the second are empty
files there, which the next boot takes away with the folder.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from pipeline.report.model import Phase


def append(path: Path, *phases: Phase) -> None:
    """Add phases to a timeline."""
    with path.open("a", encoding="utf-8") as file:
        for phase in phases:
            file.write(json.dumps(dataclasses.asdict(phase)) + "\n")


def read(path: Path) -> list[Phase]:
    """The phases of a timeline; none where there is no file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [Phase(**json.loads(line)) for line in lines]


class Notes:
    """What a cluster has come through since it was booted.  A machine's report is begun anew whenever it starts, and
    cannot tell: `installed/NODE` stays, whatever becomes of the node.

    `up`: its first start came to a good end.  `deployed`: since its nodes were started last, the OPKGs have been told.
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
