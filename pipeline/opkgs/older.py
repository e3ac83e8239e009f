"""Generations 1 and 2 of `config.xml`, of OSCAR 4 and 5: lists of packages under filters.

Their authors have long gone home, so what they wrote that is not known or not acted upon is warned of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.mistakes import did_you_mean, quoted
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import Filter, Versioned
from pipeline.opkgs.model import Dependency
from pipeline.opkgs.phases import Side
from pipeline.opkgs.reader import NAME, PACKAGE, VERSION, Reader

_GROUPS: dict[str, tuple[Side, ...]] = {
    "oscar_server": ("server",),
    "oscar_clients": ("client",),
    "all": ("server", "client"),
    "": ("server", "client"),
}

#: Nobody checked these when they were written: what is acted upon, and what needs no acting.
_GRAMMAR: dict[str, tuple[str, ...]] = {
    "oscar": (
        "name",
        "version",
        "class",
        "summary",
        "description",
        "license",
        "copyright",
        "group",
        "url",
        "uri",
        "vendor",
        "maintainer",
        "packager",
        "provides",
        "conflicts",
        "requires",
        "filter",
        "rpmlist",
        "binary-package-list",
    ),
    "version": ("major", "minor", "subversion", "release", "epoch"),
    **dict.fromkeys(("provides", "conflicts", "requires"), ("type", "name")),
    "rpmlist": ("filter", "rpm"),
    "binary-package-list": ("filter", "pkg"),
    "filter": ("group", "architecture", "distribution"),
    "filter.distribution": ("name", "version"),
}
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "filter": ("group", "distribution", "distribution_version", "architecture"),
    **dict.fromkeys(("name", "rpm", "pkg"), ("rel", "version")),
}
#: What counts once in an element.
_ONCE: dict[str, tuple[str, ...]] = {
    "oscar": ("name", "version", "class", "summary", "description", "license", "copyright", "vendor", "uri", "url"),
    "version": _GRAMMAR["version"],
    **dict.fromkeys(("provides", "conflicts", "requires"), ("type",)),
    "filter": _GRAMMAR["filter"],
    "distribution": _GRAMMAR["filter.distribution"],
}
#: Elements of theirs that said what is now said otherwise.
_SPECIFIC = "there are no switcher tags and no tables of OSCAR's database here"
_MEANINGS = {
    "servicelist": "services are enabled by their packages, or by a script: systemctl enable",
    **dict.fromkeys(("package", "package-specific-attributes", "switcher", "database_tables"), _SPECIFIC),
}


class Older(Reader):
    """Reads what has `rpmlist` or `binary-package-list`."""

    def judge(self, name: str, title: str, summary: str) -> None:
        self._grammar(self.root, self.root.tag)

    def version(self) -> str:
        """epoch:major.minor.subversion-release, of which only the first number must be there."""
        parts = self.root.first("version")
        if parts is None:
            self.wrong(self.root, "version", "missing; expected major, minor, subversion and release")
            return ""
        upstream = ".".join(text for tag in ("major", "minor", "subversion") if (text := parts.value(tag)))
        epoch, release = parts.value("epoch"), parts.value("release")
        version = (f"{epoch}:" if epoch not in ("", "0") else "") + upstream + (f"-{release}" if release else "")
        if not VERSION.fullmatch(version):
            self.wrong(parts, "version", f"{quoted(version)} is not a version; expected one like 1.0.0-1")
        return version

    def named(self, element: Element, relation: str) -> Iterable[Element]:
        kind = element.value("type")
        if kind in ("", "package"):
            return element.all("name")
        self.warn(element, relation, f"type {quoted(kind)} is not acted upon; expected package")
        return ()

    def dependencies(self) -> Iterator[Dependency]:
        """Lists of packages: each filter has a side of its own, so that one list may become two dependencies."""
        for element in self.root.all("rpmlist", "binary-package-list"):
            names = [self.versioned(item, element.tag, PACKAGE) for item in element.all("rpm", "pkg")]
            packages = tuple(name for name in names if name)
            by_side: dict[tuple[Side, ...], list[Filter]] = {}
            for item in element.all("filter"):
                sides, one = self._filter(item)
                by_side.setdefault(sides, []).append(one)
            if not by_side:
                yield Dependency("requires", _GROUPS[""], packages)
            for sides, filters in by_side.items():
                yield Dependency("requires", sides, packages, tuple(filters))

    def filters(self, element: Element) -> Iterator[Filter]:
        return (self._filter(item)[1] for item in element.all("filter"))

    def _filter(self, item: Element) -> tuple[tuple[Side, ...], Filter]:
        """Generation 1 has attributes where generation 2 has elements."""
        distribution = item.first("distribution")
        name = distribution.value("name") if distribution else _attribute(item, "distribution")
        version = distribution.value("version") if distribution else _attribute(item, "distribution_version")
        group = item.value("group") or _attribute(item, "group")
        machine = item.value("architecture") or _attribute(item, "architecture")
        if group not in _GROUPS:
            self.wrong(
                item,
                "filter.group",
                f"{quoted(group)} is not known; expected oscar_server or oscar_clients{did_you_mean(group, _GROUPS)}",
            )
        if (name and not NAME.fullmatch(name)) or (version and not VERSION.fullmatch(version)):
            text = (
                f"{quoted(f'{name} {version}'.strip())} is no distribution; expected a name like fc, a version like 4"
            )
            self.wrong(distribution or item, "filter.distribution", text)
        if version and not name:
            self.warn(item, "filter.distribution", f"version {quoted(version)} of no distribution is not acted upon")
        distributions = (
            (self.distribution(item, "filter.distribution", Versioned(name, "=" if version else "", version)),)
            if name
            else ()
        )
        machines = (self.architecture(item, "filter.architecture", machine),) if machine else ()
        return _GROUPS.get(group, ()), Filter(distributions, machines)

    def _grammar(self, element: Element, where: str) -> None:
        """Warn of what gets lost: elements, attributes and text that nothing is made of."""
        allowed = _GRAMMAR.get(where[max(where.find("filter"), 0) :], ())  # filters stand in several elements
        for child in element.children if allowed else ():
            below = child.tag if where == "oscar" else f"{where}.{child.tag}"
            if child.tag in allowed:
                if child.tag in _ONCE.get(element.tag, ()) and element.first(child.tag) is not child:
                    self.warn(child, below, "it is there again, and only the first one counts")
                self._grammar(child, below)
            else:
                known = _MEANINGS.get(child.tag, "")
                text = f"not acted upon: {known or f'it is not known{did_you_mean(child.tag, allowed)}'}"
                if not known or not any((one.field, one.text) == (below, text) for one in self.warnings):
                    self.warn(child, below, text)
        options = _ATTRIBUTES.get(element.tag, ())
        for name in element.attributes:
            if allowed and element.tag != "oscar" and name not in options:
                self.warn(
                    element,
                    where,
                    f"attribute {quoted(name)} is not acted upon: it is not known{did_you_mean(name, options)}",
                )
        if allowed and element.text:
            self.warn(element, where, f"{quoted(element.text)} stands between elements and is not acted upon")


def _attribute(element: Element, name: str) -> str:
    """With single spaces, as the text of an element."""
    return " ".join(element.attributes.get(name, "").split())
