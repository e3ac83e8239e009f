"""A new cluster: its recipe is written, from a few words, whole or not at all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import NotNow, UserError
from pipeline.mistakes import shown
from pipeline.verbs.recipes import edited_alone
from pipeline.verbs.rows import Clusters, Row, Verb

if TYPE_CHECKING:
    from pipeline.manifests.founding import Founded
    from pipeline.manifests.recipes import Recipes


@dataclass(frozen=True)
class Founding:
    """What was written, or would be: `machines` counts them by membership; `free_mib` is the memory that machines could
    have on its host now, None where that does not answer."""

    cluster: str
    file: str
    written: bool
    host: str
    distro: str
    machines: Mapping[str, int]
    memory_mib: int
    free_mib: int | None
    recipe: str

    def text(self) -> str:
        if not self.written:
            return self.recipe.rstrip("\n")
        machines = ", ".join(f"{count} {membership}" for membership, count in self.machines.items())
        return (
            f"{self.cluster}: {machines} of {self.distro} on {self.host}, {self.memory_mib} MiB of memory in all; "
            f"in {self.file}; doit cluster:{self.cluster} makes it"
        )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="what it is called: recipes/clusters/NAME.toml is written")
    base = parser.add_mutually_exclusive_group(required=True)
    base.add_argument("--extends", metavar="CLUSTER", help="it is like that one, but for what is said here")
    base.add_argument("--distro", metavar="NAME", help="a bare one of this distribution")
    parser.add_argument("--nodes", metavar="N", type=int, help="number of compute nodes")
    parser.add_argument("--memory", metavar="SIZE", help="memory of each compute node, as 512M")
    parser.add_argument("--cpus", metavar="N", type=int, help="processors of each compute node")
    parser.add_argument("--head-memory", metavar="SIZE", help="memory of the head node")
    parser.add_argument("--head-cpus", metavar="N", type=int, help="processors of the head node")
    parser.add_argument("--host", metavar="NAME", help="VM container that it runs on (recipes/hosts/NAME.toml)")
    parser.add_argument("--dry-run", action="store_true", help="print the recipe, and write nothing")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row]:
    from pipeline import plan as planning
    from pipeline.manifests import founding
    from pipeline.manifests.recipes import load

    if args.name in clusters.booted():
        raise NotNow(f"{args.name} runs already", hint=f"another name, or first doit stop:{args.name}")
    tables = {
        "": {"extends": args.extends, "distro": args.distro, "host": args.host},
        "head": {"memory": args.head_memory, "cpus": args.head_cpus},
        "compute": {"count": args.nodes, "memory": args.memory, "cpus": args.cpus},
    }
    said = {
        table: {field: value for field, value in fields.items() if value is not None}
        for table, fields in tables.items()
    }
    with edited_alone(clusters):
        recipes = load(clusters.recipes)
        made = founding.draft(recipes, args.name, said)
        planning.require_apart(clusters.plan, recipes, made.cluster, {made.file: made.text})
        free = _free_mib(clusters, recipes, made)
        if not args.dry_run:
            made.write()
    cluster = made.cluster
    yield Founding(
        cluster.name,
        shown(made.file),
        not args.dry_run,
        cluster.host,
        cluster.distro,
        {"head": 1, **{membership: len(machines) for membership, machines in cluster.members.items()}},
        sum(machine.memory_mib for machine in cluster.machines),
        free,
        made.text,
    )


def _free_mib(clusters: Clusters, recipes: Recipes, made: Founded) -> int | None:
    """What its host has for machines; that there is too little is told: others may have ended when it starts."""
    from pipeline.hosts import kinds

    cluster = made.cluster
    needed = sum(machine.memory_mib for machine in cluster.machines)
    run = clusters.run
    place = kinds.place(recipes.describe_host(cluster.host), cluster, run / cluster.name, run.parent)
    try:
        free = place.free_mib()
        kept = place.kept()
    except UserError as error:
        print(f"warning: whether there is memory for it is not known: {error.message}", file=sys.stderr)
        return None
    if needed > free:
        print(
            f"warning: memory is short: its machines have {needed} MiB, {free} MiB are free on {cluster.host}",
            file=sys.stderr,
        )
    if kept:
        print(f"warning: disks of an earlier {cluster.name} were kept: {', '.join(kept)}", file=sys.stderr)
    return free


VERB = Verb("write the recipe of a new cluster", _arguments, _rows)
