"""What is installed in a root, and why something of it cannot stay when other packages come.

apt says what it would remove and not why; dpkg takes away without a question what a package has replaced altogether.
So the reasons are looked up in what the packages themselves say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.packages.deb.relations import Relation, provides, relations
from pipeline.packages.deb.stanzas import Stanza
from pipeline.rootfs import RootFs

#: How a package's entry ends in whose place nothing is, or nothing but its settings.
_GONE = ("not-installed", "config-files")

Packages = Mapping[str, Stanza]


def installed(root: Path) -> dict[str, Stanza]:
    """The packages of a root by name, as its dpkg knows them."""
    with RootFs(root) as inside:
        text = inside.read("/var/lib/dpkg/status").decode(errors="replace")
    found = [Stanza(entry.strip("\n") + "\n") for entry in text.split("\n\n") if entry.strip()]
    return {one.name: one for one in found if not one.get("Status").endswith(_GONE)}


def why_not(name: str, before: Packages, given: Packages, gone: frozenset[str] = frozenset()) -> str:
    """Why a package that was there cannot stay beside those that are given, and without those that are gone."""
    one = before[name]
    for other in given.values():
        for says, field, about in (
            (other, "Conflicts", one),
            (other, "Breaks", one),
            (one, "Conflicts", other),
            (one, "Breaks", other),
        ):
            if relation := next(_meant(says, field, about), None):
                return f"{says.name} {says.version} says {field}: {relation}"
    after = {**{key: stanza for key, stanza in before.items() if key not in gone}, **given}
    for group in one.dependencies:
        if not any(_meets(stanza, need) for need in group for stanza in after.values()):
            return f"{name} {one.version} needs {' | '.join(map(str, group))}"
    return ""


def _meant(says: Stanza, field: str, about: Stanza) -> Iterator[Relation]:
    """The relations of a field that are about that package."""
    if says.name != about.name:  # whoever provides and conflicts with the same name means the others
        yield from (need for group in relations(says.get(field)) for need in group if _meets(about, need))


def _meets(stanza: Stanza, need: Relation) -> bool:
    if stanza.name == need.name:
        return need.admits(stanza.version)
    return provides(stanza.get("Provides"), need)
