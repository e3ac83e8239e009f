"""OPKGs: OSCAR packages of any generation as one frozen model, and which packages they ask for on which side.

Generations 1 (OSCAR 4) and 2 (OSCAR 5) list packages under filters, generation 3 (OSCAR 6) has server, client and
common dependencies; `document` reads all three.  Filters are honoured alike: an absent filter means always, fields of
one filter must all fit, and of several filters one must fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.description import Secret
from pipeline.mistakes import Mistake, did_you_mean, listing
from pipeline.opkgs.about import About
from pipeline.opkgs.filters import Filter, Target, Versioned
from pipeline.opkgs.phases import Side
from pipeline.opkgs.secrets import in_the_way

Relation = Literal["requires", "suggests", "provides", "conflicts"]


@dataclass(frozen=True)
class Dependency:
    """Packages that a side needs (or suggests, provides, conflicts with) where a filter fits; no filter = always."""

    relation: Relation
    sides: tuple[Side, ...]
    packages: tuple[Versioned, ...]
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Script:
    """A script of the OPKG: the phase in today's name, and the file's name in its folder."""

    phase: str
    file: str


@dataclass(frozen=True)
class Opkg:
    """An OPKG.  `name` is its folder's; `title` is what older generations have as a name for people to read.

    `about` is what it says for people.  `provides`, `conflicts` and `requires` are between OPKGs; `dependencies` name
    packages of the distribution.  `scripts` are its phases' scripts, `tests` those of `test_root` and `test_user` that
    it has, `secrets` the files with random bytes that it wants.  `warnings` are mistakes with which it can be used all
    the same.
    """

    name: str
    title: str
    version: str
    summary: str
    class_: str
    generation: int
    provides: tuple[Versioned, ...]
    conflicts: tuple[Versioned, ...]
    requires: tuple[Versioned, ...]
    dependencies: tuple[Dependency, ...]
    filters: tuple[Filter, ...]
    scripts: tuple[Script, ...]
    tests: tuple[str, ...]
    folder: Path
    about: About
    secrets: tuple[Secret, ...] = ()
    warnings: tuple[Mistake, ...] = ()

    def script(self, phase: str) -> str | None:
        """The path of that phase's script below the OPKG's folder, or None."""
        return next((f"scripts/{item.file}" for item in self.scripts if item.phase == phase), None)

    def is_for(self, target: Target) -> bool:
        """Whether the OPKG as a whole is meant for that distribution."""
        return not self.filters or any(item.fits(target) for item in self.filters)


def packages(opkg: Opkg, side: Side, target: Target) -> list[str]:
    """What the OPKG requires of the distribution on that side: "name" or "name>=1.2", in its order, each once."""
    wanted: dict[str, None] = {}
    for item in opkg.dependencies:
        fits = not item.filters or any(one.fits(target) for one in item.filters)
        if item.relation == "requires" and side in item.sides and fits:
            wanted.update(dict.fromkeys(map(str, item.packages)))
    return list(wanted)


def needed(opkgs: Mapping[str, Opkg], wanted: Iterable[str]) -> list[str]:
    """`wanted` and all that is required by name, of OPKGs that are known or not."""
    found = list(dict.fromkeys([*wanted, *(name for name, item in sorted(opkgs.items()) if item.class_ == "core")]))
    for name in found:  # grows while it is read
        needs = opkgs[name].requires if name in opkgs else ()
        found += [need.name for need in needs if need.name not in found]
    return found


def resolve(
    opkgs: Mapping[str, Opkg], wanted: Iterable[str], target: Target, unread: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[str]]:
    """The OPKGs to install, in order, and what is wrong with that choice.

    Those of class "core" come first if they are not named, each one comes after what it requires, and otherwise the
    order is that of `wanted`.  Names that are not in `opkgs` are left out.  `unread` are others that have mistakes, so
    that nobody knows what they provide.
    """
    named = [name for name in dict.fromkeys(wanted) if name in opkgs]
    core = [name for name, item in sorted(opkgs.items()) if item.class_ == "core" and name not in named]
    chosen = _Choice(opkgs, [*core, *named], unread)
    wrong = chosen.wrong
    for index, name in enumerate(chosen.order):
        item = opkgs[name]
        if not item.is_for(target):
            meant = listing({str(one) for each in item.filters for one in each.distributions})
            wrong.append(
                f'OPKG "{name}" is not for {target.compat.name} {target.compat.version} on '
                f"{target.architecture}; it is for {meant}"
            )
        for other in chosen.order[:index]:
            wrong += [
                f'OPKGs "{other}" and "{name}" both declare the secret {one.path}; expected one of them to'
                for one in item.secrets
                for its in opkgs[other].secrets
                if in_the_way(one.path, its.path)
            ]
            if _conflict(item, opkgs[other]) or _conflict(opkgs[other], item):
                led = chosen.led(name, other)
                wrong.append(f'OPKG "{name}" conflicts with "{other}"{led}; expected one of them')
    return tuple(chosen.order), wrong


def chains(opkgs: Mapping[str, Opkg], name: str, beside: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """What an OPKG needs where those `beside` are there too, each with how it comes to need it: itself first."""
    return {
        other: chain
        for other, chain in _Choice(opkgs, [name, *beside], ()).chains.items()
        if chain[0] == name and other != name
    }


class _Choice:
    """Depth first through what OPKGs require."""

    def __init__(self, opkgs: Mapping[str, Opkg], wanted: list[str], unread: Sequence[str]) -> None:
        self.order: list[str] = []
        self.wrong: list[str] = []
        self.chains: dict[str, tuple[str, ...]] = {}
        self._opkgs = opkgs
        self._wanted = wanted
        self._unread = unread
        for name in wanted:
            self._add(name, ())

    def led(self, *names: str) -> str:
        """How those of them came to be chosen that nobody named, in words."""
        chains = [" -> ".join(self.chains[name]) for name in names if len(self.chains[name]) > 1]
        return f" ({', '.join(chains)})" if chains else ""

    def _add(self, name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join([*above[above.index(name) :], name])
            self.wrong.append(f"OPKGs require each other in a circle: {circle}")
        elif name not in self.order:
            for need in self._opkgs[name].requires:
                provider = self._provider(name, need, above)
                if provider is not None:
                    self._add(provider, (*above, name))
            if name not in self.order:
                self.order.append(name)
                self.chains[name] = (*above, name)

    def _provider(self, name: str, need: Versioned, above: tuple[str, ...]) -> str | None:
        able = [other for other, item in sorted(self._opkgs.items()) if _satisfies(item, need)]
        for other in (need.name, *self._wanted):
            if other in able:
                return other
        if len(able) == 1:
            return able[0]
        chain = f" ({' -> '.join([*above, name, need.name])})" if above else ""
        if able:
            self.wrong.append(
                f'OPKG "{name}" requires "{need}", which several OPKGs provide{chain}; '
                f"expected one of them to be named: {listing(able)}"
            )
        else:
            but = f", unless one does that cannot be read: {listing(self._unread)}" if self._unread else ""
            near = did_you_mean(need.name, self._opkgs)
            self.wrong.append(f'OPKG "{name}" requires "{need}", which no OPKG provides{but}{chain}{near}')
        return None


def _conflict(one: Opkg, other: Opkg) -> bool:
    return any(_satisfies(other, need) for need in one.conflicts)


def _satisfies(opkg: Opkg, need: Versioned) -> bool:
    """Whether an OPKG is, or provides, what is needed."""
    if opkg.name == need.name:
        return need.admits(opkg.version)
    return any(
        item.name == need.name and (not need.rel or (bool(item.version) and need.admits(item.version)))
        for item in opkg.provides
    )
