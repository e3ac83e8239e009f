"""More nodes in a cluster's recipe: what they are called, and which addresses and MACs they get.

These count from a node's number, and the next numbers are given under a lock, so that commands at the same time never
give one twice.  The recipe is written whole or not at all; machines are made by the next run of `doit cluster:NAME`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipeline.errors import WrongUse
from pipeline.verbs.recipes import assigned, edited_alone
from pipeline.verbs.rows import Clusters, Row, Verb

_FIELDS = ("memory", "cpus", "mac")


@dataclass(frozen=True)
class Added:
    """One node that has come to the recipe, with addresses and MACs by network card; `kept` are disks (MACHINE.NAME) of
    an earlier one of its name, which it finds."""

    cluster: str
    machine: str
    membership: str
    addresses: Mapping[str, str]
    macs: Mapping[str, str]
    memory_mib: int
    cpus: int
    kept: tuple[str, ...]

    def text(self) -> str:
        cards = ", ".join(f"{card} {address} {self.macs[card]}" for card, address in self.addresses.items())
        old = f"; it finds what was kept: {', '.join(self.kept)}" if self.kept else ""
        return f"{self.machine}: {self.membership}, {self.memory_mib} MiB, {self.cpus} cpu, {cards}{old}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument(
        "fields",
        nargs="*",
        metavar="FIELD=VALUE",
        help="what they have where that is not what their membership has: memory=512M, cpus=2; of one alone, "
        "mac=52:54:00:12:34:56",
    )
    parser.add_argument(
        "--membership",
        metavar="NAME",
        default="compute",
        help="what they are (default: %(default)s); a new one is made",
    )
    parser.add_argument("--count", metavar="N", type=int, default=1, help="how many (default: %(default)s)")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row]:
    from pipeline import plan as planning
    from pipeline.cluster import leaving
    from pipeline.manifests import counting
    from pipeline.manifests.recipes import load
    from pipeline.manifests.setting import extending

    values = assigned(args.fields, _FIELDS)
    if args.count < 1:
        raise WrongUse(f"--count {args.count}: expected at least 1")
    if args.count > 1 and "mac" in values:
        raise WrongUse(f"one MAC for {args.count} machines", hint="each its own: doit vm add once for each")
    life = clusters.lifecycle(args.cluster)
    name, lot = life.cluster.name, clusters.plan.lots.get(life.cluster.name, 0)
    with edited_alone(clusters):
        recipes = load(clusters.recipes)
        draft = counting.more(recipes, name, args.membership, args.count, values, lot)
        planning.require_apart(clusters.plan, recipes, draft.after, {draft.file: draft.text})
        old = {machine.name for machine in draft.before.machines}
        new = [machine for machine in draft.after.machines if machine.name not in old]
        keeps = any(disk.kind == "kept" for machine in new for disk in machine.disks)
        kept = life.runner.place.kept() if keeps else ()
        draft.write()
        others = extending(recipes, name)
    if others:
        print(f"{', '.join(others)}: changed as well, for they extend {name}", file=sys.stderr)
    for machine in new:
        yield Added(
            name,
            machine.name,
            machine.membership,
            {card.name: card.address for card in machine.interfaces},
            {card.name: card.mac for card in machine.interfaces},
            machine.memory_mib,
            machine.cpus,
            tuple(leaving.machines_of(kept, [machine.name])),
        )
    print(f"doit cluster:{name} brings {'it' if len(new) == 1 else 'them'} up", file=sys.stderr)


VERB = Verb("more nodes in the recipe: their names, addresses and MACs", _arguments, _rows)
