"""Which packages are asked for, by whom, and which versions of them will do.

apt looks at one version of each package: the newest of those that its archive offers unasked.  What an OPKG asks for,
or what a package from backports depends on, may be another one.  So the version that fits is chosen here and pinned;
apt then resolves as ever, and has the last word on whether all goes together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import BuildError
from pipeline.packages.deb.relations import Relation, provides
from pipeline.packages.deb.stanzas import Index, Stanza

#: Higher than any archive's own priority, and too low to replace what is installed.
_PRIORITY = 990


@dataclass(frozen=True)
class Wish:
    """A package that is asked for, and who asks: "OPKG slurm"."""

    relation: Relation
    asker: str = ""

    @classmethod
    def parse(cls, text: str, asker: str, architecture: str) -> Wish:
        """What stands in a recipe: "name", "name=1.2" or "name>=1.2"; raises BuildError."""
        by = f" ({asker})" if asker else ""
        relation = Relation.parse(text)
        if relation is None or relation.name != relation.name.lower():
            raise BuildError(
                f"{text!r} is no package{by}",
                hint='write "name", "name=1.2" or "name>=1.2"; names of Debian\'s packages are in lower case',
            )
        if relation.architecture not in ("", "any", "native", "all", architecture):
            raise BuildError(
                f"{text}{by}: only packages for {architecture} are read, none for {relation.architecture}",
                hint=f'write "{relation.name}"',
            )
        return cls(Relation(relation.name, relation.rel, relation.version), asker)

    @property
    def name(self) -> str:
        return self.relation.name

    def __str__(self) -> str:
        return f"{self.relation} ({self.asker})" if self.asker else str(self.relation)


@dataclass
class Choice:
    """What apt is told: `words` to install, and the versions it must look at, by name; `needs` are why."""

    words: list[str] = field(default_factory=list)
    pins: dict[str, Stanza] = field(default_factory=dict)
    needs: dict[str, list[Relation]] = field(default_factory=dict)

    @property
    def preferences(self) -> str:
        """The pins as apt reads them."""
        return "\n".join(
            f"Package: {name}\nPin: version {stanza.version}\nPin-Priority: {_PRIORITY}\n"
            for name, stanza in sorted(self.pins.items())
        )


class Chooser:
    """Chooses among the versions of an index, on top of `base` (name -> version that is installed already)."""

    def __init__(self, index: Index, base: Mapping[str, str]) -> None:
        self.index = index
        self.base = base

    def choose(self, wishes: Sequence[Wish]) -> Choice:
        """Words and versions that meet the wishes; BuildError where nothing does."""
        asked: dict[str, list[Wish]] = {}
        for wish in sorted(wishes, key=lambda wish: (wish.relation, wish.asker)):
            asked.setdefault(wish.name, []).append(wish)
        unknown = [wish for wish in wishes if wish.name not in self.base and wish.name not in self.index]
        if unknown:
            raise self._unknown(unknown)
        choice = Choice()
        for name, group in asked.items():
            if name in self.base:
                self._check_base(group)
            elif stanza := self._stanza_for(group, [*asked, *self.base]):
                choice.words.append(stanza.name)
                choice.needs[name] = [wish.relation for wish in group]
                if stanza != self.index.candidates(stanza.name)[0]:
                    choice.pins[stanza.name] = stanza
        return choice

    def widened(self, choice: Choice) -> Choice:
        """The same, with pins for its packages and what they depend on, wherever only another version will do."""
        pins, needs = dict(choice.pins), {name: list(found) for name, found in choice.needs.items()}
        todo, seen = list(choice.words), set(self.base)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            stanza = self._settled(name, needs.get(name, ()), pins)
            for group in stanza.dependencies if stanza else ():
                need = next((one for one in group if self._is_met(one, pins)), None) or self._pinned(group, needs, pins)
                if need is not None:
                    needs.setdefault(need.name, []).append(need)
                    todo.append(need.name)
        return Choice(choice.words, pins, needs)

    def _settled(self, name: str, needs: Iterable[Relation], pins: dict[str, Stanza]) -> Stanza | None:
        """The version of a package whose own dependencies can be met, if there is one; pinned where apt needs it."""
        if name in pins:
            return pins[name]
        fitting = self._fitting(name, needs)
        stanza = next(
            (one for one in fitting if all(self._can_be_met(group, pins) for group in one.dependencies)),
            next(iter(fitting), None),
        )
        if stanza and stanza != self.index.candidates(name)[0]:
            pins[name] = stanza
        return stanza

    def _can_be_met(self, group: Sequence[Relation], pins: Mapping[str, Stanza]) -> bool:
        return any(self._is_met(need, pins) or self._is_open(need, pins) for need in group)

    def _is_open(self, need: Relation, pins: Mapping[str, Stanza]) -> bool:
        """Whether another version meets a need, and may be taken."""
        return need.name not in self.base and need.name not in pins and bool(self._fitting(need.name, [need]))

    def _pinned(
        self, group: Sequence[Relation], needs: Mapping[str, Sequence[Relation]], pins: dict[str, Stanza]
    ) -> Relation | None:
        """The alternative that another version meets, which is pinned."""
        for need in group:
            fitting = self._fitting(need.name, [*needs.get(need.name, ()), need])
            if fitting and need.name not in self.base and need.name not in pins:
                pins[need.name] = fitting[0]
                return need
        return None

    def _fitting(self, name: str, needs: Iterable[Relation]) -> list[Stanza]:
        """The versions that meet all needs, the one that apt would take first."""
        return [stanza for stanza in self.index.candidates(name) if all(need.admits(stanza.version) for need in needs)]

    def _is_met(self, need: Relation, pins: Mapping[str, Stanza]) -> bool:
        """Whether the base, or the version that apt looks at, meets a need, itself or by what it provides."""
        if need.name in self.base:
            return need.admits(self.base[need.name])
        first = pins.get(need.name) or next(iter(self.index.candidates(need.name)), None)
        return (first is not None and need.admits(first.version)) or bool(self.index.providers(need))

    def _stanza_for(self, group: Sequence[Wish], others: Sequence[str]) -> Stanza | None:
        """The version to install, of the package or of the one that provides it; None where another wish brings it."""
        name, needs = group[0].name, [wish.relation for wish in group]
        if fitting := self._fitting(name, needs):
            return fitting[0]
        able = [
            stanza
            for stanza in self.index.providers(needs[0])
            if all(provides(stanza.get("Provides"), need) for need in needs)
        ]
        names = list(dict.fromkeys(stanza.name for stanza in able))
        if not names:
            raise self._impossible(group)
        if any(one in others for one in names):
            return None
        if len(names) > 1:
            raise BuildError(f"{_told(group)}: that is provided by {', '.join(names)}", hint="ask for one of them")
        return able[0]

    def _check_base(self, group: Sequence[Wish]) -> None:
        name = group[0].name
        wrong = [wish for wish in group if not wish.relation.admits(self.base[name])]
        if wrong:
            raise BuildError(
                f"{_told(wrong)}: the base root of the distribution has {name} {self.base[name]}",
                hint="change the version that is asked for, or give your own .deb to the cluster",
            )

    def _impossible(self, group: Sequence[Wish]) -> BuildError:
        name = group[0].name
        there = [stanza.version for stanza in self.index.candidates(name)]
        there += [
            f"{stanza.name}, which provides {', '.join(map(str, stanza.provided(name)))}"
            for stanza in self.index.providers(Relation(name))
        ]
        return BuildError(
            f"no {_told(group)}: {self.index.searched} has {', '.join(there)}",
            hint="change the version that is asked for, or give your own .deb to the cluster",
        )

    def _unknown(self, wishes: Sequence[Wish]) -> BuildError:
        said = []
        for wish in wishes:
            closest = self.index.closest(wish.name)
            meant = f"did you mean {' or '.join(closest)}?" if closest else ""
            remarks = "; ".join(filter(None, (wish.asker, meant)))
            said.append(f"{wish.name} ({remarks})" if remarks else wish.name)
        return BuildError(
            f"unknown package: {', '.join(said)}",
            hint=f"searched {self.index.searched}; `doit update` brings the archive's newest index",
        )


def _told(group: Sequence[Wish]) -> str:
    """Wishes for one package: "tool that is >= 2 (OPKG a) and << 3 (OPKG b)"."""
    relations = [(wish.relation, f" ({wish.asker})" if wish.asker else "") for wish in group]
    versions = [f"{relation.rel} {relation.version}{by}" for relation, by in relations if relation.rel]
    if not versions:
        return f"{group[0].name}{relations[0][1]}"
    return f"{group[0].name} that is {' and '.join(versions)}"
