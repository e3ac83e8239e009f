"""Which machines there are, of one cluster or of all that run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, Verb
from pipeline.virt.power import State


@dataclass(frozen=True)
class Listed:
    """One machine; `why` it is paused, where nobody has paused it."""

    cluster: str
    machine: str
    state: State
    hypervisor: str
    host: str
    memory_mib: int
    cpus: int
    why: str

    def text(self) -> str:
        where = f"{self.hypervisor}/{self.host}"
        return (
            f"{self.cluster:<12}  {self.machine:<10}  {self.state:<8}  {where:<12}  "
            f"{self.memory_mib} MiB  {self.cpus} cpu{f'  ({self.why})' if self.why else ''}"
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", nargs="?", help="without it, all clusters that run")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    """A cluster whose VM container does not answer must not hide the others."""
    told = False
    for name in [args.cluster] if args.cluster else clusters.booted():
        try:
            life = clusters.running(name)
            machines, host = life.machines(), life.host
            if args.cluster or machines.runs():
                for line in machines.lines():
                    told = True
                    yield Listed(
                        name, line.machine, line.state, host.hypervisor, host.name, line.memory_mib, line.cpus, line.why
                    )
        except UserError as error:
            if args.cluster:
                raise
            told = True
            yield error
    if not told and not args.json:  # an empty array says that to programs
        print("no cluster runs")


VERB = Verb("machines with their state, VM container, memory and cpus", _arguments, _rows)
