"""`doit why TASK`: what changed, for a task and everything that it is made from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline import naming
from pipeline.commands.base import GraphCommand, nearest
from pipeline.errors import ManifestError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Why(GraphCommand):
    name = "why"
    doc_purpose = "say what would be built for a task, and why"
    doc_usage = "TASK"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("task", help="a task that makes an artifact, as disk:debian12/head, or a cluster:NAME")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        steps, keys = graph.plan.steps, graph.engine.keys
        kind, _, name = args.task.partition(":")
        if kind in ("cluster", "boot", "install", "start", "verify") and name in graph.plan.clusters:
            wanted = list(graph.plan.made[name].parts().values())
        elif args.task in steps:
            wanted = [args.task]
        elif graph.plan.fault(args.task):
            raise ManifestError(graph.plan.fault(args.task))
        else:
            clusters = (naming.phase("cluster", cluster) for cluster in graph.plan.clusters)
            raise nearest(args.task, [*steps, *clusters], "task")
        stale = 0
        for task in graph.plan.below(wanted):
            entry = keys.entry(task)
            if entry is None:
                stale += 1
                print(f"{task}: {keys.why(steps[task])}")
            elif task in wanted:
                print(f"{task}: up to date, built {entry.manifest.get('started', '')[:19]} "
                      f"in {entry.manifest.get('seconds', 0)} s")
        if not stale:
            print("nothing to build")
        return 0
