"""`doit update DISTRO`: forget the snapshot of a distribution's package index, so that the next run takes a new one.

Everything else follows by keys: new locks where versions changed, and what is made from them.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline import naming
from pipeline.commands.base import GraphCommand
from pipeline.errors import ManifestError
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Update(GraphCommand):
    name = "update"
    doc_purpose = "take newer package versions at the next run"
    doc_usage = "[DISTRO ...]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "distro", nargs="*", help="name of a distribution (recipes/distros/NAME.toml); without it, all"
        )

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        known = {step.name for step in graph.plan.steps.values() if step.kind == "index"}
        for name in args.distro:
            if f"distros/{name}" in graph.plan.broken:
                raise ManifestError(graph.plan.broken[f"distros/{name}"])
            if name not in known:
                raise no_such("distribution", name, known)
        for name in args.distro or sorted(known):
            graph.engine.forget(naming.index(name))
            print(f"{name}: the next run takes a new snapshot of its package index")
        for text in () if args.distro else graph.plan.told():
            print(f"warning: {text}", file=sys.stderr)
        return 0
