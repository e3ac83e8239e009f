"""The manifest that recreates a cluster as it is: machines as they run, with all that has been allocated to them."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.cluster.acting import Line
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.description import Cluster
from pipeline.errors import ManifestError
from pipeline.hosts import kinds
from pipeline.verbs import names
from pipeline.verbs.rows import Clusters, Row, Verb
from pipeline.virt.hardware import NEAR_MIB


@dataclass(frozen=True)
class Dumped:
    """A manifest of a whole cluster, or tables of some machines."""

    cluster: str
    machines: tuple[str, ...]
    manifest: str

    def text(self) -> str:
        return self.manifest.rstrip("\n")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument(
        "machines",
        nargs="*",
        metavar="machine",
        help="names or patterns: the tables of these, to be put into a recipe; without any, a whole recipe",
    )


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row]:
    from pipeline.manifests import dumping

    life = clusters.running(args.cluster)
    machines = life.machines()
    runs = machines.runs()
    cluster = _as_it_is(life.cluster, machines.lines()) if runs else life.cluster
    known = [machine.name for machine in cluster.machines]
    meant = names.expand(args.machines, known)
    if meant:
        tables = dumping.dump_machines(cluster, meant, on_xen=life.host.hypervisor == "xen")
        yield Dumped(args.cluster, tuple(meant), tables)
        return
    yield Dumped(args.cluster, tuple(known), _manifest(clusters, life, cluster, runs))


def _as_it_is(cluster: Cluster, lines: list[Line]) -> Cluster:
    """With what its machines have by their engine."""
    has = {line.machine: line for line in lines}
    machines = [
        dataclasses.replace(machine, memory_mib=_memory(has[machine.name]), cpus=has[machine.name].cpus)
        if machine.name in has
        else machine
        for machine in cluster.machines
    ]
    return dataclasses.replace(cluster, head=machines[0], nodes=tuple(machines[1:]))


def _memory(line: Line) -> int:
    given_back = line.state == "running" and line.memory_mib - line.has_mib > NEAR_MIB
    return line.has_mib if given_back else line.memory_mib


def _manifest(clusters: Clusters, life: Lifecycle, cluster: Cluster, runs: bool) -> str:
    from pipeline.manifests import dumping
    from pipeline.manifests.recipes import load

    recipes, name = load(clusters.recipes), life.copy_of or cluster.name
    software, remarks = dumping.Software(), [f"{cluster.name} as it {'runs' if runs else 'would be'}"]
    try:
        recipe = recipes.cluster(name)
    except ManifestError:
        print(f"warning: {name} has no recipe that says which packages are under test in it", file=sys.stderr)
    else:
        software = dumping.Software(
            recipe.kernel_from,
            {side: files for side in ("head", "compute") if (files := getattr(recipe.packages, side))},
            {kind: table.packages for kind, table in recipe.memberships.items()},
        )
    if kinds.of(life.host.connection).is_shared:
        remarks.append(f"Beside it on {life.host.name}, another cluster gets other MACs, and needs other [networks]")
    for machine in cluster.machines:
        cards = ", ".join(f"{card.name} {card.mac} {card.address}" for card in machine.interfaces)
        remarks.append(f"{machine.name}: {cards}")
    return dumping.dump(cluster, software, remarks)


VERB = Verb("the recipe that recreates a cluster as it is, or the tables of machines", _arguments, _rows)
