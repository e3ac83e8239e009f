"""Generation 3 of `config.xml`, OSCAR 6's and this project's own: an element that it does not know is a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

from pipeline.mistakes import did_you_mean, listing, quoted
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import Filter
from pipeline.opkgs.model import Dependency, Relation
from pipeline.opkgs.phases import Side
from pipeline.opkgs.reader import NAME, PACKAGE, VERSION, Reader

_RELATIONS: tuple[Relation, ...] = get_args(Relation)
_SUMMARY = 67

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
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "author": ("cat",),
    "dist": ("rel", "version"),
    "pkg": ("rel", "version"),
    "versionEntry": ("version",),
    "changelogEntry": ("authorName", "date", "closes"),
}

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
        if len(summary) > _SUMMARY:
            self.wrong(
                self.root.first("summary") or self.root,
                "summary",
                f"{len(summary)} letters; expected at most {_SUMMARY}",
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
                self._grammar(child, below)
            else:
                wanted = f"expected one of {listing(allowed)}" if allowed else "expected text only"
                self.wrong(child, below, f"unknown element; {wanted}{did_you_mean(child.tag, allowed)}")
        for name in element.attributes:
            options = _ATTRIBUTES.get(element.tag, ())
            if name not in options and element.tag != "oscar":
                self.wrong(
                    element,
                    where,
                    f"unknown attribute {quoted(name)}; expected {listing(options)}{did_you_mean(name, options)}",
                )
        if allowed and element.text:
            self.wrong(element, where, f"{quoted(element.text)} stands between elements; expected elements only")
