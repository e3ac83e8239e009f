"""`doit opkg NAME|FOLDER`: what an OPKG of any generation is, what of it goes where and when, and why.

`doit opkg install|remove CLUSTER NAME ...`: have OPKGs on a cluster that runs, or no longer.  An OPKG that is called
like one of these words is shown by its path.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.base import Done, GraphCommand, answer, json_argument
from pipeline.errors import ManifestError, WrongUse
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.manifests.distro import Distro
    from pipeline.manifests.recipes import Recipes
    from pipeline.opkgs.filters import Filter
    from pipeline.opkgs.model import Opkg as Model
    from pipeline.tasks import Graph

_SIDES = {"server": "head node", "client": "compute nodes"}


@dataclass(frozen=True)
class Fact:
    """One thing about an OPKG: of what kind it is, where it goes, and when that is so ("" = always).  `counts` says
    whether it is so for the distribution that was asked about."""

    kind: str
    what: str
    where: str = ""
    when: str = ""
    counts: bool = True

    def text(self) -> str:
        words = [f"{self.kind:<12} {self.what}", f"on {self.where}" if self.where else "", self.when]
        return ", ".join(filter(None, words)) + ("" if self.counts else "  [not here]")


class Opkg(GraphCommand):
    name = "opkg"
    doc_purpose = "show what an OPKG is; or install it on a cluster that runs, or remove it there"
    doc_usage = (
        "NAME|FOLDER [--distro NAME] [--convert] [--json] | install CLUSTER NAME ... [--mirror NAME=WHERE] | "
        "remove CLUSTER NAME ..."
    )
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "opkg", help="an OPKG of recipes/opkgs, or a folder with a config.xml; or one of the words install, remove"
        )
        parser.add_argument("cluster", nargs="?", help="after install, remove: a cluster that runs")
        parser.add_argument("names", nargs="*", metavar="name", help="after install, remove: OPKGs")
        parser.add_argument("--distro", help="a distribution: what of it counts there (recipes/distros/NAME.toml)")
        parser.add_argument("--convert", action="store_true", help="print its config.xml as generation 3 has it")
        parser.add_argument(
            "--mirror", action="append", default=[], help="install: NAME=WHERE, where a distribution's packages are"
        )
        json_argument(parser)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.manifests.recipes import load
        from pipeline.opkgs import convert, document, folders
        from pipeline.packages import given

        if args.opkg in ("install", "remove"):
            if not args.names or args.distro or args.convert:
                raise WrongUse(
                    f"doit opkg {args.opkg} takes a cluster and OPKGs: doit opkg {args.opkg} CLUSTER NAME ..."
                )
            given.take(args.mirror, [step.name for step in graph.plan.steps.values() if step.kind == "index"])
            return answer(_change(graph, args), as_json=args.json)
        if args.cluster:
            raise WrongUse(f"one OPKG at a time is shown, and there is {args.cluster} after {args.opkg}")
        recipes = load(graph.recipes)
        folder = _folder(recipes, args.opkg)
        opkg = folders.load(folder, recipes.codenames())
        if args.convert:
            read = document.parse(folder / "config.xml")
            sys.stdout.write(document.write(convert.to_generation3(read, opkg)))
            return 0
        distro = _distro(recipes, args.distro) if args.distro else None
        return answer(facts(opkg, distro), as_json=args.json)


def _change(graph: Graph, args: argparse.Namespace) -> Iterator[Done]:
    """Have OPKGs on a cluster, or no longer."""
    from pipeline.cluster.adding import install
    from pipeline.cluster.removing import remove
    from pipeline.manifests.recipes import load

    names = list(dict.fromkeys(args.names))
    if args.opkg == "install":
        told = install(graph.lifecycle(args.cluster), load(graph.recipes), names)
    else:
        told = remove(graph.running(args.cluster), names)
    yield from (Done(args.cluster, machine, what) for machine, what in told)


def _folder(recipes: Recipes, words: str) -> Path:
    """Where it lies: a word is one of ours, whatever else there may be of that name."""
    ours = recipes.folder / "opkgs" / words
    if "/" not in words and words not in (".", ".."):
        if words not in recipes.names("opkgs"):
            raise no_such("OPKG", words, recipes.names("opkgs"))
        return ours
    folder = Path(words).absolute()
    if not (folder / "config.xml").exists():
        raise ManifestError(f"{words}: there is no config.xml; expected the folder of an OPKG")
    return folder


def _distro(recipes: Recipes, name: str) -> Distro:
    if name not in recipes.names("distros"):
        raise no_such("distribution", name, recipes.names("distros"))
    return recipes.distro(name)


def facts(opkg: Model, distro: Distro | None) -> Iterator[Fact]:
    """All that is known of it, in the order in which one would ask."""
    from pipeline.opkgs import phases

    about = opkg.about
    yield Fact("name", opkg.name + (f" ({opkg.title})" if opkg.title != opkg.name else ""))
    yield Fact("version", f"{opkg.version}, of class {opkg.class_}, written in generation {opkg.generation}")
    for kind, text in (
        ("summary", opkg.summary),
        ("description", about.description),
        ("licence", " ".join(filter(None, (about.licence, about.copyright)))),
        ("group", ", ".join(about.groups)),
        ("at", about.uri),
        ("vendor", about.vendor),
    ):
        if text:
            yield Fact(kind, text)
    for author in about.authors:
        yield Fact("by", f"{author}, {author.part}")
    if opkg.filters:
        fits = distro is None or opkg.is_for(distro)
        yield Fact("is for", _condition(opkg.filters).removeprefix("for "), counts=fits)
    for relation in ("requires", "conflicts", "provides"):
        for name in getattr(opkg, relation):
            yield Fact(relation, f"OPKG {name}")
    for each in opkg.dependencies:
        fits = distro is None or not each.filters or any(one.fits(distro) for one in each.filters)
        for side in each.sides:
            for package in each.packages:
                what = str(package) if each.relation == "requires" else f"{each.relation} {package}"
                yield Fact("package", what, _SIDES[side], _condition(each.filters), fits)
    for phase in phases.PHASES:
        script = opkg.script(phase.name)
        if script:
            yield Fact("script", script, _SIDES[phase.side], f"{phase.name}: {_WHEN[phase.when]}")
    for test in opkg.tests:
        yield Fact("test", f"testing/{test}", _SIDES["server"], "at verification")
    for secret in opkg.secrets:
        yield Fact("secret", f"{secret.path}, {secret.size} bytes", "every machine")
    for service, group in about.services:
        yield Fact("service", service, "", f"of {group}" if group else "", counts=False)
    for tag, name in about.switcher:
        yield Fact("switcher", f"{tag}: {name}", counts=False)
    for release in about.releases:
        for change in release.changes:
            yield Fact("change", f"{release.version}: {'; '.join(change.items)} ({change.author}, {change.date})")
    for warning in opkg.warnings:
        yield Fact("warning", str(warning))


_WHEN = {
    "prepared": "when the head node's root has all packages, and no OPKG's files yet",
    "furnished": "when the OPKG's files have come to the root",
    "imaged": "when the image is whole; its folder is $1",
    "head up": "when the head node is up and knows its nodes",
    "all up": "when all nodes are up",
    "removing": "before doit opkg remove takes the OPKG away",
    "removed": "after doit opkg remove has taken it away",
}


def _condition(filters: tuple[Filter, ...]) -> str:
    """When something applies, in words; "" = always."""
    found = []
    if any(each == type(each)() for each in filters):
        return ""
    for each in filters:
        words = [*map(str, each.distributions)]
        where = f" on {' or '.join(each.architectures)}" if each.architectures else ""
        found.append(f"{' or '.join(words) or 'any'}{where}")
    return f"for {'; or '.join(found)}" if found else ""
