"""`doit why TASK`: what changed, for a task and everything that it is made from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import naming
from pipeline.commands.base import Question
from pipeline.errors import ManifestError
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.tasks import Graph


@dataclass(frozen=True)
class Reason:
    """Why a task would be made, or when it was ("" is no task: there is nothing to build)."""

    task: str
    reason: str

    def text(self) -> str:
        return f"{self.task}: {self.reason}" if self.task else self.reason


class Why(Question):
    name = "why"
    doc_purpose = "say what would be built for a task, and why"
    doc_usage = "TASK [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("task", help="a task that makes an artifact, as disk:debian12/head, or a cluster:NAME")

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Reason]:
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
            raise no_such("task", args.task, [*steps, *clusters])
        stale = 0
        for task in graph.plan.below(wanted):
            entry = keys.entry(task)
            if entry is None:
                stale += 1
                yield Reason(task, keys.why(steps[task]))
            elif task in wanted:
                yield Reason(
                    task,
                    f"up to date, built {entry.manifest.get('started', '')[:19]} "
                    f"in {entry.manifest.get('seconds', 0)} s",
                )
        if not stale:
            yield Reason("", "nothing to build")
