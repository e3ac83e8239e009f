"""`doit status`: every cluster, whether it runs, what it is made of and what its verdict was."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Status(GraphCommand):
    name = "status"
    doc_purpose = "the clusters: running or not, machines, artifacts, verdicts"
    doc_usage = ""
    doc_description = None

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.cluster.lifecycle import verdict_line

        for name in graph.plan.clusters:
            lifecycle = graph.lifecycle(name)
            stale = [task for task in graph.plan.below(graph.plan.artifacts_of(name).values())
                     if graph.engine.keys.entry(task) is None]
            states, verdict = lifecycle.states(), lifecycle.verdict()
            built = "artifacts ready" if not stale else f"{len(stale)} artifacts to build"
            judged = verdict_line(verdict) if verdict else "no verdict"
            print(f"{name}: {'running' if states else 'not running'}; {built}; {judged}")
            for machine in lifecycle.cluster.machines if states else ():
                cards = ", ".join(f"{card.name} {card.address}" for card in machine.interfaces)
                print(f"  {machine.name:<10} {states.get(machine.name, 'not defined'):<10} "
                      f"{machine.memory_mib} MiB, {machine.cpus} cpu, {cards}")
        return 0
