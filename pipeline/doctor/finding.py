"""What a check gets and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import foreign

#: `fail` means that the main job, a verified cluster, is impossible; `warn` that it is slower or lacks a part.
Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, how it is, and what to change."""

    subject: str
    level: Level
    words: str
    hint: str = ""

    def text(self) -> str:
        line = f"{self.level:<4}  {self.subject}: {self.words}"
        return foreign.clean(f"{line}\n      hint: {self.hint}" if self.hint else line)


@dataclass(frozen=True)
class Surroundings:
    """Where the checks look: the recipes, and the folder for everything made."""

    recipes: Path
    artifacts: Path
