"""Generation 3 of `config.xml`, OSCAR 6's and this project's own: an element that it does not know is a mistake."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from pipeline.mistakes import did_you_mean, listing, quoted
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import Filter
from pipeline.opkgs.model import Dependency, Relation
from pipeline.opkgs.phases import Side
from pipeline.opkgs.reader import NAME, PACKAGE, VERSION, Reader

_RELATIONS: tuple[Relation, ...] = get_args(Relation)
SUMMARY = 67

_SIDES: dict[str, tuple[Side, ...]] = {
    "serverDeps": ("server",),
    "clientDeps": ("client",),
    "commonDeps": ("server", "client"),
    "apiDeps": ("server",),
}
#: Which elements may stand in which.
_GRAMMAR: dict[str, tuple[str, ...]] = {
    "oscar": (
        "name",
        "class",
        "summary",
        "description",
        "license",
        "group",
        "uri",
        "authors",
        "filters",
        "provides",
        "conflicts",
        "requires",
        "serverDeps",
        "clientDeps",
        "commonDeps",
        "apiDeps",
        "changelog",
    ),
    "authors": ("author",),
    "author": ("name", "nickname", "email", "institution", "beginYear", "endYear"),
    **dict.fromkeys(_SIDES, _RELATIONS),
    **dict.fromkeys(_RELATIONS, ("filters", "pkg")),
    "filters": ("dist", "arch"),
    "changelog": ("versionEntry",),
    "versionEntry": ("changelogEntry",),
    "changelogEntry": ("item",),
}
#: What counts once in an element.
_ONCE: dict[str, tuple[str, ...]] = {
    "oscar": ("name", "class", "summary", "description", "license", "uri"),
    "author": _GRAMMAR["author"],
}
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "author": ("cat",),
    "dist": ("rel", "version"),
    "pkg": ("rel", "version"),
    "versionEntry": ("version",),
    "changelogEntry": ("authorName", "date", "closes"),
}

#: As XML Schema has a dateTime: real hours and all.
_DATE = re.compile(
    r"-?\d{4,}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?"
    r"(?:Z|[+-]\d\d:\d\d)?"
)

#: Elements by which a document is known to be of this generation.
OWN = frozenset((*_SIDES, "changelog", "authors"))


class Generation3(Reader):
    """Reads what has `serverDeps` and their kin."""

    def judge(self, name: str, title: str, summary: str) -> None:
        self._grammar(self.root, self.root.tag)
        if title and title != name:
            self.wrong(
                self.root.first("name") or self.root, "name", f"{quoted(title)} differs from its folder {quoted(name)}"
            )
        if len(summary) > SUMMARY:
            self.wrong(
                self.root.first("summary") or self.root,
                "summary",
                f"{len(summary)} letters; expected at most {SUMMARY}",
            )

    def version(self) -> str:
        """That of the first entry in the change log."""
        for log in self.root.all("changelog"):
            for entry in log.all("versionEntry"):
                version = entry.attributes.get("version", "")
                if not VERSION.fullmatch(version):
                    self.wrong(
                        entry,
                        "changelog.versionEntry",
                        f"version={quoted(version)} is not a version; expected one like 1.0-1",
                    )
                return version
        self.wrong(self.root, "changelog", "missing; expected a versionEntry, whose version is the OPKG's")
        return ""

    def named(self, element: Element, relation: str) -> Iterable[Element]:
        for filters in element.all("filters"):
            self.wrong(filters, f"{relation}.filters", "filters are for packages; expected none between OPKGs")
        return element.all("pkg")

    def dependencies(self) -> Iterator[Dependency]:
        for part in self.root.all(*_SIDES):
            for element in part.all(*_RELATIONS):
                where = f"{part.tag}.{element.tag}"
                names = [self.versioned(item, f"{where}.pkg", PACKAGE) for item in element.all("pkg")]
                if not names:
                    self.wrong(element, where, "no packages; expected at least one <pkg>")
                relation = next(relation for relation in _RELATIONS if relation == element.tag)
                yield Dependency(
                    relation, _SIDES[part.tag], tuple(name for name in names if name), tuple(self.filters(element))
                )

    def filters(self, element: Element) -> Iterator[Filter]:
        for filters in element.all("filters"):
            distributions = tuple(
                self.distribution(item, "filters.dist", one)
                for item in filters.all("dist")
                if (one := self.versioned(item, "filters.dist", NAME)) is not None
            )
            architectures = tuple(self.architecture(item, "filters.arch", item.text) for item in filters.all("arch"))
            yield Filter(distributions, architectures)

    def _grammar(self, element: Element, where: str) -> None:
        allowed = _GRAMMAR.get(element.tag, ())
        for child in element.children:
            below = child.tag if where == "oscar" else f"{where}.{child.tag}"
            if child.tag in allowed:
                if child.tag in _ONCE.get(element.tag, ()) and element.first(child.tag) is not child:
                    self.warn(child, below, "it is there again, and only the first one counts")
                self._grammar(child, below)
            elif where != "oscar" or not child.tag.startswith("older:"):
                wanted = f"expected one of {listing(allowed)}" if allowed else "expected text only"
                self._unknown(child, below, f"unknown element; {wanted}", child.tag, allowed)
        for name in element.attributes:
            options = _ATTRIBUTES.get(element.tag, ())
            if name not in options and element.tag != "oscar":
                text = f"unknown attribute {quoted(name)}; expected {listing(options)}"
                self._unknown(element, where, text, name, options)
        if element.tag == "changelogEntry" and not _DATE.fullmatch(element.attributes.get("date", "")):
            text = f"{quoted(element.attributes.get('date', ''))} is no date; expected one like 2026-11-29T12:00:00Z"
            self.warn(element, f"{where}.date", text)
        self._order(element, where, allowed)
        if allowed and element.text:
            text = f"{quoted(element.text)} stands between elements; expected elements only"
            (self.warn if element.children else self.wrong)(element, where, text)

    def _unknown(self, element: Element, where: str, text: str, name: str, known: Sequence[str]) -> None:
        """A slip of the pen would lose what was meant; what is like nothing known is only not acted upon."""
        meant = did_you_mean(name, known)
        if meant or element.tag in (*_SIDES, *_RELATIONS, "pkg", "filters", "dist", "arch"):
            self.wrong(element, where, f"{text}{meant}")
        else:
            self.warn(element, where, f"{text}; it is not acted upon")

    def _order(self, element: Element, where: str, allowed: Sequence[str]) -> None:
        """OSCAR's schema has an order; nothing here depends on it."""
        places = [(allowed.index(child.tag), child) for child in element.children if child.tag in allowed]
        for (before, _), (place, child) in itertools.pairwise(places if element.tag == "oscar" else ()):
            if place < before:
                self.warn(child, child.tag, f"it should stand before {allowed[before]}")
