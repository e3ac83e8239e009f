"""Reads an OPKG's `config.xml`, whichever generation wrote it.

Old files have quirks that are kept: a document type that points to a DTD (never fetched), names meant for people, no
`config.xml` schema at all.  In generation 3, which is what this project writes, an unknown element is a mistake; in
older ones it is a warning, for their authors have long gone home.
The parser knows the line of every element, and refuses entities: a recipe can't read other files or fill the memory.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, get_args
from xml.parsers import expat

from pipeline.manifests.filters import (
    Codenames,
    Filter,
    Versioned,
    understood,
    unfit_architecture,
    unfit_distribution,
)
from pipeline.manifests.mistakes import Mistake, did_you_mean, fail, listing, printable, quoted, shown
from pipeline.manifests.opkg import Dependency, Opkg, Relation, Script, Side

CLASSES = ("core", "base", "included", "third-party")

_DEEPEST = 32
_LIMIT = 1 << 20
_RELATIONS: tuple[Relation, ...] = get_args(Relation)
_OPERATORS = (">=", "<=", ">", "<", "=")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:-]*")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,99}")
_SUMMARY = 67

_SIDES: dict[str, tuple[Side, ...]] = {
    "serverDeps": ("server",),
    "clientDeps": ("client",),
    "commonDeps": ("server", "client"),
    "apiDeps": ("server",),
}
_GROUPS: dict[str, tuple[Side, ...]] = {"oscar_server": ("server",), "oscar_clients": ("client",),
                                        "all": ("server", "client"), "": ("server", "client")}

#: Generation 3: which elements may stand in which.
_GRAMMAR: dict[str, tuple[str, ...]] = {
    "oscar": ("name", "class", "summary", "description", "license", "group", "uri", "authors", "filters", "provides",
              "conflicts", "requires", "serverDeps", "clientDeps", "commonDeps", "apiDeps", "changelog"),
    "authors": ("author",),
    "author": ("name", "nickname", "email", "institution", "beginYear", "endYear"),
    **dict.fromkeys(_SIDES, _RELATIONS),
    **dict.fromkeys(_RELATIONS, ("filters", "pkg")),
    "filters": ("dist", "arch"),
    "changelog": ("versionEntry",),
    "versionEntry": ("changelogEntry",),
    "changelogEntry": ("item",),
}
#: Generations 1 and 2, which nobody checked when they were written: what is acted upon, and what needs no acting.
_OLD_GRAMMAR: dict[str, tuple[str, ...]] = {
    "oscar": ("name", "version", "class", "summary", "description", "license", "copyright", "group", "url", "uri",
              "vendor", "maintainer", "packager", "provides", "conflicts", "requires", "filter", "rpmlist",
              "binary-package-list"),
    "version": ("major", "minor", "subversion", "release", "epoch"),
    **dict.fromkeys(("provides", "conflicts", "requires"), ("type", "name")),
    "rpmlist": ("filter", "rpm"),
    "binary-package-list": ("filter", "pkg"),
    "filter": ("group", "architecture", "distribution"),
    "filter.distribution": ("name", "version"),
}
_OLD_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "filter": ("group", "distribution", "distribution_version", "architecture"),
    **dict.fromkeys(("name", "rpm", "pkg"), ("rel", "version")),
}
#: Elements of theirs that said what is now said otherwise.
_SPECIFIC = "there are no switcher tags and no tables of OSCAR's database here"
_OLD_MEANINGS = {
    "servicelist": "services are enabled by their packages, or by a script: systemctl enable",
    **dict.fromkeys(("package", "package-specific-attributes", "switcher", "database_tables"), _SPECIFIC),
}
_ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "author": ("cat",), "dist": ("rel", "version"), "pkg": ("rel", "version"), "versionEntry": ("version",),
    "changelogEntry": ("authorName", "date", "closes"),
}


@dataclass
class _Element:
    tag: str
    line: int
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def all(self, *tags: str) -> Iterator[_Element]:
        return (child for child in self.children if child.tag in tags)

    def first(self, tag: str) -> _Element | None:
        return next(self.all(tag), None)

    def value(self, tag: str) -> str:
        found = self.first(tag)
        return found.text if found else ""


def read(file: Path, scripts: tuple[Script, ...] = (), tests: tuple[str, ...] = (),
         codenames: Codenames = MappingProxyType({})) -> Opkg:
    """The OPKG whose `config.xml` this is; its name is its folder's.  Filters may name suites by `codenames`."""
    reader = _Reader(file, codenames)
    opkg = reader.opkg(scripts, tests)
    if reader.mistakes:
        fail(reader.mistakes)
    return dataclasses.replace(opkg, warnings=tuple(reader.warnings))


def may_be_core(file: Path) -> bool:
    """Whether a file, however broken, says that its OPKG belongs to every cluster; true where nobody can tell."""
    try:
        return re.search(rb"<class>\s*core\s*</class>", file.read_bytes()) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _parse(file: Path) -> _Element:
    """The file as a tree of elements."""
    top = _Element("", 1, {})
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(text: str) -> NoReturn:
        fail([Mistake(shown(file), parser.CurrentLineNumber, "", text)])

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            refuse("elements stand too deep in one another")
        element = _Element(tag, parser.CurrentLineNumber, attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def entity(name: str, *_: object) -> None:
        refuse(f"entity {quoted(name)}; expected a file without entities of its own")

    def characters(text: str) -> None:
        stack[-1].pieces.append(text)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = entity
    parser.SkippedEntityHandler = lambda name, parameter: None if parameter else entity(name)
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
        if len(raw) > _LIMIT:
            refuse("larger than 1 MiB; expected a file written by a person")
        parser.Parse(raw, True)
    except OSError as error:
        fail([Mistake(shown(file), 1, "", f"cannot be read: {error.strerror}")])
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        fail([Mistake(shown(file), error.lineno, "", f"this is not XML: {reason} (column {error.offset + 1})")])
    except (ValueError, LookupError) as error:
        fail([Mistake(shown(file), 1, "", f"this is not XML: {printable(str(error))}")])
    return top.children[0]


class _Reader:
    def __init__(self, file: Path, codenames: Codenames) -> None:
        self.file = file
        self.codenames = codenames
        self.folder = file.parent
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    def opkg(self, scripts: tuple[Script, ...], tests: tuple[str, ...]) -> Opkg:
        root = _parse(self.file)
        if root.tag != "oscar":
            fail([Mistake(shown(self.file), root.line, root.tag, 'expected the root element "oscar"')])
        generation = self._generation(root)
        if generation == 3:
            self._grammar(root, root.tag)
        else:
            self._old_grammar(root, root.tag)
        name = self.folder.name
        title = self._required(root, "name")
        if generation == 3 and title and title != name:
            self._wrong(root.first("name") or root, "name", f"{quoted(title)} differs from its folder {quoted(name)}")
        if not _NAME.fullmatch(name):
            self._wrong(root, "name", f"the folder {quoted(name)} is no OPKG name; expected letters a-z, digits and "
                                      "+ - . _")
        summary = self._required(root, "summary")
        if generation == 3 and len(summary) > _SUMMARY:
            self._wrong(root.first("summary") or root, "summary",
                        f"{len(summary)} letters; expected at most {_SUMMARY}")
        old = generation < 3
        return Opkg(
            name=name,
            title=title,
            version=self._old_version(root) if old else self._version(root),
            summary=summary,
            class_=self._class(root),
            generation=generation,
            provides=self._between(root, "provides", old),
            conflicts=self._between(root, "conflicts", old),
            requires=self._between(root, "requires", old),
            dependencies=tuple(self._lists(root) if old else self._dependencies(root)),
            filters=self._old_filters(root) if old else self._filters(root),
            scripts=scripts,
            tests=tests,
            folder=self.folder,
        )

    # What all generations have.

    def _generation(self, root: _Element) -> int:
        tags = {child.tag for child in root.children}
        if tags & {*_SIDES, "changelog", "authors"}:
            return 3
        if "rpmlist" in tags or "url" in tags:
            return 1
        return 2 if "version" in tags or "binary-package-list" in tags else 3

    def _required(self, root: _Element, tag: str) -> str:
        text = root.value(tag)
        if not text:
            self._wrong(root.first(tag) or root, tag, "missing; expected text")
        return text

    def _class(self, root: _Element) -> str:
        found = root.first("class")
        if found is None:
            return "third-party"
        if found.text not in CLASSES:
            self._wrong(found, "class", f"{quoted(found.text)} is not known; expected one of {listing(CLASSES)}"
                                        f"{did_you_mean(found.text, CLASSES)}")
        return found.text

    def _between(self, root: _Element, relation: str, old: bool) -> tuple[Versioned, ...]:
        """Other OPKGs: generation 3 has `pkg` there, the older ones `type` and `name`."""
        found: list[Versioned] = []
        for element in root.all(relation):
            kind = element.value("type") if old else ""
            if kind not in ("", "package"):
                self._warn(element, relation, f"type {quoted(kind)} is not acted upon; expected package")
                names = []
            elif old:
                names = list(element.all("name"))
            else:
                names = list(element.all("pkg"))
                for filters in element.all("filters"):
                    self._wrong(filters, f"{relation}.filters", "filters are for packages; expected none between OPKGs")
            found += [one for name in names if (one := self._versioned(name, relation, _NAME)) is not None]
        return tuple(found)

    def _versioned(self, element: _Element, where: str, pattern: re.Pattern[str]) -> Versioned | None:
        """A name with `rel` and `version`; an operator may also stand before the version."""
        name, rel, version = element.text, element.attributes.get("rel", ""), element.attributes.get("version", "")
        version = version.strip()
        for operator in _OPERATORS:
            if not rel and version.startswith(operator):
                rel, version = operator, version[len(operator):].strip()
        wrong = ""
        if not pattern.fullmatch(name):
            wrong = f"{quoted(name)} is not a name; expected letters, digits and + - ."
        elif rel and rel not in _OPERATORS:
            wrong = f"rel={quoted(rel)} is not known; expected one of > >= < <= ="
        elif (rel or "version" in element.attributes) and not _VERSION.fullmatch(version):
            wrong = f"version={quoted(version)} is not a version; expected one like 1.2"
        if wrong:
            self._wrong(element, where, wrong)
            return None
        return Versioned(name, rel or ("=" if version else ""), version)

    # Generation 3.

    def _grammar(self, element: _Element, where: str) -> None:
        allowed = _GRAMMAR.get(element.tag, ())
        for child in element.children:
            below = child.tag if where == "oscar" else f"{where}.{child.tag}"
            if child.tag in allowed:
                self._grammar(child, below)
            else:
                wanted = f"expected one of {listing(allowed)}" if allowed else "expected text only"
                self._wrong(child, below, f"unknown element; {wanted}{did_you_mean(child.tag, allowed)}")
        for name in element.attributes:
            options = _ATTRIBUTES.get(element.tag, ())
            if name not in options and element.tag != "oscar":
                self._wrong(element, where, f"unknown attribute {quoted(name)}; expected {listing(options)}"
                                            f"{did_you_mean(name, options)}")
        if allowed and element.text:
            self._wrong(element, where, f"{quoted(element.text)} stands between elements; expected elements only")

    def _version(self, root: _Element) -> str:
        """That of the first entry in the change log."""
        for log in root.all("changelog"):
            for entry in log.all("versionEntry"):
                version = entry.attributes.get("version", "")
                if not _VERSION.fullmatch(version):
                    self._wrong(entry, "changelog.versionEntry",
                                f"version={quoted(version)} is not a version; expected one like 1.0-1")
                return version
        self._wrong(root, "changelog", "missing; expected a versionEntry, whose version is the OPKG's")
        return ""

    def _dependencies(self, root: _Element) -> Iterator[Dependency]:
        for part in root.all(*_SIDES):
            for element in part.all(*_RELATIONS):
                where = f"{part.tag}.{element.tag}"
                names = [self._versioned(item, f"{where}.pkg", _PACKAGE) for item in element.all("pkg")]
                if not names:
                    self._wrong(element, where, "no packages; expected at least one <pkg>")
                relation = next(relation for relation in _RELATIONS if relation == element.tag)
                yield Dependency(relation, _SIDES[part.tag], tuple(name for name in names if name),
                                 self._filters(element))

    def _filters(self, element: _Element) -> tuple[Filter, ...]:
        found: list[Filter] = []
        for filters in element.all("filters"):
            distributions = [self._distribution(item, "filters.dist", one) for item in filters.all("dist")
                             if (one := self._versioned(item, "filters.dist", _NAME)) is not None]
            architectures = tuple(self._architecture(item, "filters.arch", item.text) for item in filters.all("arch"))
            found.append(Filter(tuple(distributions), architectures))
        return tuple(found)

    def _architecture(self, element: _Element, where: str, name: str) -> str:
        """The name as it is, with a warning where no machine can have it."""
        self._warn(element, where, unfit_architecture(name))
        return name

    def _distribution(self, element: _Element, where: str, item: Versioned) -> Versioned:
        """The distribution that is meant, with a warning where none ever is."""
        meant = understood(item, self.codenames)
        self._warn(element, where, unfit_distribution(meant, self.codenames))
        return meant

    # Generations 1 and 2.

    def _old_grammar(self, element: _Element, where: str) -> None:
        """Warn of what gets lost: elements, attributes and text that nothing is made of."""
        allowed = _OLD_GRAMMAR.get(where[max(where.find("filter"), 0):], ())  # filters stand in several elements
        for child in element.children if allowed else ():
            below = child.tag if where == "oscar" else f"{where}.{child.tag}"
            if child.tag in allowed:
                self._old_grammar(child, below)
            else:
                known = _OLD_MEANINGS.get(child.tag, "")
                text = f"not acted upon: {known or f'it is not known{did_you_mean(child.tag, allowed)}'}"
                if not known or not any((one.field, one.text) == (below, text) for one in self.warnings):
                    self._warn(child, below, text)
        options = _OLD_ATTRIBUTES.get(element.tag, ())
        for name in element.attributes:
            if allowed and element.tag != "oscar" and name not in options:
                self._warn(element, where, f"attribute {quoted(name)} is not acted upon: it is not known"
                                           f"{did_you_mean(name, options)}")
        if allowed and element.text:
            self._warn(element, where, f"{quoted(element.text)} stands between elements and is not acted upon")

    def _old_version(self, root: _Element) -> str:
        """epoch:major.minor.subversion-release, of which only the first number must be there."""
        parts = root.first("version")
        if parts is None:
            self._wrong(root, "version", "missing; expected major, minor, subversion and release")
            return ""
        upstream = ".".join(text for tag in ("major", "minor", "subversion") if (text := parts.value(tag)))
        epoch, release = parts.value("epoch"), parts.value("release")
        version = (f"{epoch}:" if epoch not in ("", "0") else "") + upstream + (f"-{release}" if release else "")
        if not _VERSION.fullmatch(version):
            self._wrong(parts, "version", f"{quoted(version)} is not a version; expected one like 1.0.0-1")
        return version

    def _lists(self, root: _Element) -> Iterator[Dependency]:
        """Lists of packages: each filter has a side of its own, so that one list may become two dependencies."""
        for element in root.all("rpmlist", "binary-package-list"):
            names = [self._versioned(item, element.tag, _PACKAGE) for item in element.all("rpm", "pkg")]
            packages = tuple(name for name in names if name)
            by_side: dict[tuple[Side, ...], list[Filter]] = {}
            for item in element.all("filter"):
                sides, one = self._old_filter(item)
                by_side.setdefault(sides, []).append(one)
            if not by_side:
                yield Dependency("requires", _GROUPS[""], packages)
            for sides, filters in by_side.items():
                yield Dependency("requires", sides, packages, tuple(filters))

    def _old_filters(self, root: _Element) -> tuple[Filter, ...]:
        return tuple(self._old_filter(item)[1] for item in root.all("filter"))

    def _old_filter(self, item: _Element) -> tuple[tuple[Side, ...], Filter]:
        """Generation 1 has attributes where generation 2 has elements."""
        distribution = item.first("distribution")
        name = distribution.value("name") if distribution else item.attributes.get("distribution", "")
        version = distribution.value("version") if distribution else item.attributes.get("distribution_version", "")
        group = item.value("group") or item.attributes.get("group", "")
        machine = item.value("architecture") or item.attributes.get("architecture", "")
        if group not in _GROUPS:
            self._wrong(item, "filter.group", f"{quoted(group)} is not known; expected oscar_server or oscar_clients"
                                              f"{did_you_mean(group, _GROUPS)}")
        distributions = (self._distribution(item, "filter.distribution", Versioned(name, "=" if version else "",
                                                                                   version)),) if name else ()
        machines = (self._architecture(item, "filter.architecture", machine),) if machine else ()
        return _GROUPS.get(group, ()), Filter(distributions, machines)

    def _wrong(self, element: _Element, where: str, text: str) -> None:
        self.mistakes.append(Mistake(shown(self.file), element.line, where, text))

    def _warn(self, element: _Element, where: str, text: str) -> None:
        if text:
            self.warnings.append(Mistake(shown(self.file), element.line, where, text))
