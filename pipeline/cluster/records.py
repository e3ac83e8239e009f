"""What a running cluster writes down: when each machine was in which phase.

A file of JSON lines in the run folder, so that a killed run leaves a readable one.
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
