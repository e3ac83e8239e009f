"""`doit gc`: bound the size of the store, and free the memory that extracted layers take.

`--check` hashes every entry and sets damaged ones aside.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand
from pipeline.engine import STORE_LIMIT

if TYPE_CHECKING:
    from pipeline.tasks import Graph

_GIB = 1 << 30


class Gc(GraphCommand):
    name = "gc"
    doc_purpose = "remove least recently used artifacts that no cluster refers to"
    doc_usage = "[--limit GIB] [--check]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--limit", type=float, default=STORE_LIMIT / _GIB, metavar="GIB",
                            help="size to come down to (default: %(default)g)")
        parser.add_argument("--check", action="store_true", help="hash every entry; damaged ones are set aside")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.hosts import idle

        store = graph.engine.store
        if args.check:
            for entry in list(store.entries()):
                damage = store.damage(entry)
                if damage:
                    store.set_aside(entry.key)
                    print(f"{entry.manifest.get('task', entry.key)}: set aside: {'; '.join(damage)}")
        graph.engine.clear_layers()
        done = graph.engine.collect(int(args.limit * _GIB), idle.run_folders(graph.artifacts))
        print(f"removed {len(done.gone)} artifacts ({done.freed / _GIB:.2f} GiB); {done.left / _GIB:.2f} GiB are left")
        if done.left > args.limit * _GIB:
            print("more is not removed: the rest is what today's recipes ask for, or in use")
        return 0
