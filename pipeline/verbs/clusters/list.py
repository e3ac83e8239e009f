"""Which clusters there are: those that have a recipe, and those that run without."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.columns import Table
from pipeline.errors import ManifestError, UserError
from pipeline.verbs.rows import Clusters, Row, Verb

State = Literal["running", "not running", "broken"]


@dataclass(frozen=True)
class ListedCluster:
    """One cluster: what its machines have by its recipe, or as they were started; `machines` counts them by membership.

    `told`: its verdict, or why there is none.  Of one whose recipe is broken nothing else is known.
    """

    cluster: str
    state: State
    host: str
    distro: str
    machines: Mapping[str, int]
    memory_mib: int
    told: str

    def cells(self) -> Sequence[str]:
        return (
            self.cluster,
            self.state,
            self.host,
            self.distro,
            ", ".join(f"{count} {membership}" for membership, count in self.machines.items()),
            f"{self.memory_mib} MiB" if self.machines else "",
            self.told,
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    pass


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | Table | UserError]:
    """One that cannot be asked must not hide the others."""
    found = []
    for name in clusters.known():
        try:
            found.append(_listed(clusters, name))
        except ManifestError as error:
            found.append(ListedCluster(name, "broken", "", "", {}, 0, error.message.splitlines()[0]))
        except UserError as error:
            yield error.about(name)
    if found:
        yield Table(tuple(found))


def _listed(clusters: Clusters, name: str) -> ListedCluster:
    life = clusters.running(name)
    cluster = life.cluster
    return ListedCluster(
        name,
        "running" if life.machines().runs() else "not running",
        life.host.name,
        cluster.distro,
        {"head": 1, **{membership: len(machines) for membership, machines in cluster.members.items()}},
        sum(machine.memory_mib for machine in cluster.machines),
        f"a copy of {life.copy_of}" if life.copy_of else _verdict(clusters, name),
    )


def _verdict(clusters: Clusters, name: str) -> str:
    from pipeline.cluster.lifecycle import verdict_line

    try:
        verdict = clusters.lifecycle(name).verdict()
    except UserError as error:  # it runs, and its recipe is broken or gone
        return error.message.splitlines()[0]
    return verdict_line(verdict) if verdict else "no verdict"


VERB = Verb("clusters: state, VM container, distribution, machines, memory, verdict", _arguments, _rows)
