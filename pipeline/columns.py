"""Tables for people: each column is as wide as what stands in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Line(Protocol):
    """A frozen dataclass: its fields are what programs read."""

    def cells(self) -> Sequence[str]:
        """What people read, column by column; lines of one table have equally many."""


@dataclass(frozen=True)
class Table:
    """Lines that are told together."""

    lines: tuple[Line, ...]

    def text(self) -> str:
        rows = [line.cells() for line in self.lines]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )
