"""Say in a cluster's recipe what machines have, and give it to those that run as far as their engine can.

The recipe is what counts: it is written first, whole or not at all, and a run that is killed after that has lost
nothing: the same words once more, or the machines' next start, do the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.records import Notes
from pipeline.errors import NotNow, UserError, WrongUse
from pipeline.verbs import names
from pipeline.verbs.recipes import assigned, edited_alone
from pipeline.verbs.rows import Clusters, Row, Verb

if TYPE_CHECKING:
    from pipeline.description import Cluster
    from pipeline.manifests.recipes import Recipes

#: What a machine can be told to do instead of its next start.
_BOOTS = ("os", "install")
#: What the recipe says of it.
_FIELDS = ("memory", "cpus")


@dataclass(frozen=True)
class Set:
    """What one machine shall have; `now`: it has it, or what it was told is noted."""

    cluster: str
    machine: str
    field: str
    value: str | int
    now: bool
    told: str

    def text(self) -> str:
        return f"{self.machine}: {self.field} {self.value}: {self.told}"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument(
        "words",
        nargs="+",
        metavar="MACHINE ... FIELD=VALUE",
        help="names or patterns, as node[1-3,7] or 'node*', and what these shall have: memory=512M, cpus=2 (written "
        "into the cluster's recipe: into the table of a membership where all of its machines are named, else into "
        "[machines.NAME]); next-boot=install (the next run of cluster:NAME that finds the node off installs it anew) "
        "or next-boot=os.  A machine that runs has at once what it was started with at least; more at its next start, "
        "by vm start, or by cluster:NAME, which starts such machines anew",
    )


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    words = [word for word in args.words if "=" not in word]
    values = assigned([word for word in args.words if "=" in word], (*_FIELDS, "next-boot"))
    if not values:
        raise WrongUse(
            "nothing to be set is named", hint="expected a word like memory=512M, cpus=2 or next-boot=install"
        )
    if values.get("next-boot", "os") not in _BOOTS:
        raise WrongUse(
            f"next-boot={values['next-boot']}: there is no such thing to boot", hint=f"there are: {', '.join(_BOOTS)}"
        )
    life = clusters.running(args.cluster)
    if life.copy_of:
        raise NotNow(f"{args.cluster} is a copy of {life.copy_of}, and no recipe says what it has")
    if not words:
        raise WrongUse("no machine is named", hint="'*' are all of them")
    boot = values.pop("next-boot", None)
    with edited_alone(clusters):
        recipes = _recipes(clusters) if values else None
        cluster = recipes.describe(args.cluster) if recipes else life.cluster
        meant = names.expand(words, [machine.name for machine in cluster.machines])
        if boot is not None:
            _require_installed(life, meant)
        after = _written(recipes, life.cluster.name, meant, values) if recipes else None
    if after:
        yield from _given(life, after, meant, values)
    if boot is not None:
        yield from _noted(life, meant, str(boot))


def _recipes(clusters: Clusters) -> Recipes:
    from pipeline.manifests.recipes import load

    return load(clusters.recipes)


def _written(recipes: Recipes, cluster: str, meant: Sequence[str], values: Mapping[str, str | int]) -> Cluster:
    """What the recipe says by now."""
    from pipeline.manifests import setting

    draft = setting.draft(recipes, cluster, meant, values)
    draft.write()
    if draft.is_other and (others := setting.extending(recipes, cluster)):
        print(f"{', '.join(others)}: changed as well, for they extend {cluster}", file=sys.stderr)
    return draft.after


def _given(
    life: Lifecycle, after: Cluster, meant: Sequence[str], values: Mapping[str, str | int]
) -> Iterator[Row | UserError]:
    """What machines that run have of it."""
    from pipeline.manifests import setting

    cluster, machines = life.cluster.name, life.machines()
    fields = {setting.FIELDS[field]: field for field in values}
    wanted = {name: {what: getattr(after.machine(name), what) for what in fields} for name in meant}
    if not machines.runs():
        for name in meant:
            yield from (Set(cluster, name, field, value, False, "when it starts") for field, value in values.items())
        return
    try:
        for name, what, effect in machines.adjust(wanted):
            yield Set(cluster, name, fields[what], values[fields[what]], effect.now, effect.words)
    except UserError as error:
        yield error.about("the recipe says it, and machines that run do not have it yet")


def _require_installed(life: Lifecycle, meant: Sequence[str]) -> None:
    """Raise NotNow where somebody wants to be installed what cannot be."""
    if not life.machines().runs():
        raise NotNow(f"{life.cluster.name} does not run: all its nodes are installed when it starts")
    if life.cluster.head.name in meant:
        raise NotNow(f"{life.cluster.head.name} is the head node, which is never installed")


def _noted(life: Lifecycle, meant: Sequence[str], boot: str) -> Iterator[Row]:
    notes = Notes(life.run_dir)
    for name in meant:
        (notes.add if boot == "install" else notes.remove)(f"again/{name}")
        told = (
            f"once it is off, doit cluster:{life.cluster.name} installs it anew; disks that are kept stay"
            if boot == "install"
            else "it starts from its disk"
        )
        yield Set(life.cluster.name, name, "next-boot", boot, True, told)


VERB = Verb("say in the recipe what machines have, and do now what can be done now", _arguments, _rows)
