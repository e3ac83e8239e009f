"""`doit gc`: bound the size of the store, and free the memory that extracted layers take.

`--check` hashes every entry and sets damaged ones aside.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.commands.base import Question
from pipeline.engine import STORE_LIMIT
from pipeline.figures import size

if TYPE_CHECKING:
    from pipeline.tasks import Graph

_GIB = 1 << 30


@dataclass(frozen=True)
class Damaged:
    """An entry that was not what it should be."""

    task: str
    damage: tuple[str, ...]

    def text(self) -> str:
        return f"{self.task}: set aside: {'; '.join(self.damage)}"


@dataclass(frozen=True)
class Collected:
    """What was removed and what is left, in bytes; `limit` is what was asked for."""

    artifacts: int
    freed: int
    left: int
    limit: int

    def text(self) -> str:
        said = f"removed {self.artifacts} artifacts ({size(self.freed)}); {size(self.left)} are left"
        if self.left > self.limit:
            said += "\nmore is not removed: the rest is what today's recipes ask for, or in use"
        return said


class Gc(Question):
    name = "gc"
    doc_purpose = "remove least recently used artifacts that no cluster refers to"
    doc_usage = "[--limit GIB] [--check] [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--limit",
            type=float,
            default=STORE_LIMIT / _GIB,
            metavar="GIB",
            help="size to come down to (default: %(default)g)",
        )
        parser.add_argument("--check", action="store_true", help="hash every entry; damaged ones are set aside")

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Damaged | Collected]:
        from pipeline.hosts import idle

        store = graph.engine.store
        if args.check:
            for entry in list(store.entries()):
                damage = store.damage(entry)
                if damage:
                    store.set_aside(entry.key)
                    yield Damaged(str(entry.manifest.get("task", entry.key)), tuple(damage))
        graph.engine.clear_layers()
        limit = int(args.limit * _GIB)
        done = graph.engine.collect(limit, idle.run_folders(graph.artifacts))
        yield Collected(len(done.gone), done.freed, done.left, limit)
