"""`doit status`: every cluster, whether it runs, what it is made of and what its verdict was."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Status(GraphCommand):
    name = "status"
    doc_purpose = "the clusters: running or not, machines, artifacts, verdicts"
    doc_usage = ""
    doc_description = None

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        status = 0
        for name in graph.known():
            try:
                _show(graph, name)
            except UserError as error:  # one that cannot be asked must not hide the others
                print(f"{name}: {error.render()}", file=sys.stderr)
                status = 1
        return status


def _show(graph: Graph, name: str) -> None:
    made = _made(graph, name)
    if name not in (*graph.plan.clusters, *graph.booted()):
        print(f"{name}: not running; {made}")
        return
    lifecycle = graph.running(name)
    states = lifecycle.states()
    print(f"{name}: {'running' if states else 'not running'}; {made}")
    for machine in lifecycle.cluster.machines if states else ():
        cards = ", ".join(f"{card.name} {card.address}" for card in machine.interfaces)
        print(f"  {machine.name:<10} {states.get(machine.name, 'not defined'):<10} "
              f"{machine.memory_mib} MiB, {machine.cpus} cpu, {cards}")


def _made(graph: Graph, name: str) -> str:
    """How far the cluster's artifacts are and what its verdict was, or why there is none."""
    from pipeline.cluster.lifecycle import verdict_line

    if f"clusters/{name}" in graph.plan.broken:
        return f"its recipe cannot be read: {graph.plan.broken[f'clusters/{name}'].splitlines()[0]}"
    if name not in graph.plan.clusters:
        return "its recipe is gone"
    stale = [task for task in graph.plan.below(graph.plan.made[name].parts().values())
             if graph.engine.keys.entry(task) is None]
    verdict = graph.lifecycle(name).verdict()
    built = "artifacts ready" if not stale else f"{len(stale)} artifacts to build"
    return f"{built}; {verdict_line(verdict) if verdict else 'no verdict'}"
