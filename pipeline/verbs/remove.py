"""Take nodes out of a cluster's recipe, and away from the cluster if it runs.

The recipe goes first: a run that is killed after that has lost nothing.  The same words once more, or the next run of
`doit cluster:NAME`, do the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline import consent
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.errors import NotNow, UserError
from pipeline.verbs import names
from pipeline.verbs.recipes import edited_alone
from pipeline.verbs.rows import Clusters, Row, Verb

if TYPE_CHECKING:
    from pipeline.manifests.setting import Draft


@dataclass(frozen=True)
class Removed:
    """One node that has left: whether it was ended, which of its kept disks (MACHINE.NAME) went, and which stay."""

    cluster: str
    machine: str
    ended: bool
    removed: tuple[str, ...]
    kept: tuple[str, ...]

    def text(self) -> str:
        told = [f"{self.machine}: no longer in the recipe{', and ended' if self.ended else ''}"]
        told += [f"kept disks removed: {', '.join(self.removed)}"] if self.removed else []
        told += [f"kept disks stay: {', '.join(self.kept)} (--disks removes them)"] if self.kept else []
        return "; ".join(told)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument(
        "machines",
        nargs="+",
        metavar="machine",
        help="names or patterns, as node[3-4]: the last ones of a membership, for machines are numbered without holes",
    )
    parser.add_argument("--disks", action="store_true", help="their disks that are kept go, too, and what is on them")
    parser.add_argument("--yes", action="store_true", help="do it without asking")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    from pipeline.cluster import leaving

    life = clusters.running(args.cluster)
    name = life.cluster.name
    if life.copy_of:
        raise NotNow(f"{name} is a copy of {life.copy_of}, and no recipe says what it has")
    kept = life.runner.place.kept()
    meant, _ = _meant(clusters, life, args.machines, kept)
    going = leaving.machines_of(kept, meant) if args.disks else []
    _require_consent(life, meant, going)
    with edited_alone(clusters):
        _, draft = _meant(clusters, life, meant, kept)  # others may have come meanwhile, to which nobody has agreed
        draft.write()
    _tell_others(clusters, draft)
    try:
        ended = life.machines().runs() and leaving.leave(life, meant)
        if going:
            leaving.discard(life, going)
    except UserError as error:
        again = f"{error.hint}; then the same once more".removeprefix("; ")
        yield type(error)(f"the recipe has them no longer, but: {error.message}", hint=again)
        return
    for machine in meant:
        own = tuple(leaving.machines_of(kept, [machine]))
        yield Removed(name, machine, ended, own if args.disks else (), () if args.disks else own)
    if ended:
        print(f"doit cluster:{name} tells the machines that are left", file=sys.stderr)


def _meant(clusters: Clusters, life: Lifecycle, words: Sequence[str], kept: Sequence[str]) -> tuple[list[str], Draft]:
    """The nodes that are to go, and the recipe without them.  Those that it has no longer count where something is
    left of them: a run may have been killed."""
    from pipeline.manifests import counting
    from pipeline.manifests.recipes import load

    name, recipes = life.cluster.name, load(clusters.recipes)
    recipe = [machine.name for machine in recipes.describe(name).machines]
    there = [machine.name for machine in life.cluster.machines] if life.machines().runs() else []
    left = [disk.rpartition(".")[0] for disk in kept]
    meant = names.expand(words, list(dict.fromkeys([*recipe, *there, *left])))
    if life.cluster.head.name in meant:
        raise NotNow(f"{life.cluster.head.name} is the head node", hint=f"doit cluster remove {name} removes it all")
    return meant, counting.fewer(recipes, name, meant)


def _require_consent(life: Lifecycle, meant: Sequence[str], disks: Sequence[str]) -> None:
    name, told = life.cluster.name, ", ".join(meant)
    also = f", and what is on the kept disks {', '.join(disks)}" if disks else ""
    consent.require(
        f"{name}: what is in memory and on the disks of {told} is lost{also}: go on?",
        NotNow(
            f"{name}: what is in memory and on the disks of {told} would be lost{also}",
            hint="--yes does it without asking",
        ),
    )


def _tell_others(clusters: Clusters, draft: Draft) -> None:
    from pipeline.manifests.recipes import load
    from pipeline.manifests.setting import extending

    name = draft.before.name
    if draft.is_other and (others := extending(load(clusters.recipes), name)):
        print(f"{', '.join(others)}: changed as well, for they extend {name}", file=sys.stderr)


def _asking(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    with consent.answered(args.yes):
        yield from _rows(clusters, args)


VERB = Verb("take nodes out of the recipe, and away if they run", _arguments, _asking)
