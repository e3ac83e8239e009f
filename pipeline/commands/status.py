"""`doit status`: every cluster, whether it runs, what it is made of and what its verdict was."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.commands.base import Question
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


@dataclass(frozen=True)
class MachineStatus:
    """One machine of a cluster that runs; `addresses` by network card."""

    name: str
    state: str
    memory_mib: int
    cpus: int
    addresses: Mapping[str, str]

    def text(self) -> str:
        cards = ", ".join(f"{card} {address}" for card, address in self.addresses.items())
        return f"  {self.name:<10} {self.state:<10} {self.memory_mib} MiB, {self.cpus} cpu, {cards}"


@dataclass(frozen=True)
class ClusterStatus:
    """One cluster: how far its artifacts are and what its verdict was, in words; if it runs, its machines, and
    what it has that its recipe does not say."""

    cluster: str
    running: bool
    made: str
    machines: tuple[MachineStatus, ...] = ()
    differs: str = ""

    def text(self) -> str:
        first = f"{self.cluster}: {'running' if self.running else 'not running'}; {self.made}"
        differs = [f"  it differs from its recipe: {self.differs}"] if self.differs else []
        return "\n".join([first, *differs, *(machine.text() for machine in self.machines)])


class Status(Question):
    name = "status"
    doc_purpose = "the clusters: running or not, machines, artifacts, verdicts"
    doc_usage = "[--json]"
    doc_description = None

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[ClusterStatus | UserError]:
        """One that cannot be asked must not hide the others."""
        for name in graph.known():
            try:
                yield _status(graph, name)
            except UserError as error:
                yield error.about(name)


def _status(graph: Graph, name: str) -> ClusterStatus:
    if name not in (*graph.plan.clusters, *graph.booted()):
        return ClusterStatus(name, running=False, made=_made(graph, name))
    lifecycle = graph.running(name)
    made = f"a copy of {lifecycle.copy_of}" if lifecycle.copy_of else _made(graph, name)
    states = lifecycle.states()
    machines = [
        MachineStatus(
            machine.name,
            states.get(machine.name, "not defined"),
            machine.memory_mib,
            machine.cpus,
            {card.name: card.address for card in machine.interfaces},
        )
        for machine in lifecycle.cluster.machines
        if states
    ]
    differs = lifecycle.added.told(machine.name for machine in lifecycle.cluster.machines) if states else ""
    return ClusterStatus(name, bool(states), made, tuple(machines), differs)


def _made(graph: Graph, name: str) -> str:
    """How far the cluster's artifacts are and what its verdict was, or why there is none."""
    from pipeline.cluster.lifecycle import verdict_line

    if f"clusters/{name}" in graph.plan.broken:
        return f"its recipe cannot be read: {graph.plan.broken[f'clusters/{name}'].splitlines()[0]}"
    if name not in graph.plan.clusters:
        return "its recipe is gone"
    stale = [
        task
        for task in graph.plan.below(graph.plan.made[name].parts().values())
        if graph.engine.keys.entry(task) is None
    ]
    verdict = graph.lifecycle(name).verdict()
    built = "artifacts ready" if not stale else f"{len(stale)} artifacts to build"
    return f"{built}; {verdict_line(verdict) if verdict else 'no verdict'}"
