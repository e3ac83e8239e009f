"""What all generations of `config.xml` have in common, and how each is read: document -> model."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.mistakes import Mistake, did_you_mean, listing, quoted, shown
from pipeline.opkgs import about
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import (
    Codenames,
    Filter,
    Versioned,
    understood,
    unfit_architecture,
    unfit_distribution,
)
from pipeline.opkgs.model import Dependency, Opkg, Script

CLASSES = ("core", "base", "included", "third-party")

#: Names of OPKGs and of packages.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:-]*")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~^-]{0,99}")
_OPERATORS = (">=", "<=", ">", "<", "=")


class Reader(abc.ABC):
    """Reads one document; `mistakes` and `warnings` are what it found wrong with it."""

    def __init__(self, file: Path, root: Element, codenames: Codenames) -> None:
        self.file = file
        self.root = root
        self.codenames = codenames
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []

    def opkg(self, generation: int, scripts: tuple[Script, ...], tests: tuple[str, ...]) -> Opkg:
        """What the document says; its name is its folder's."""
        name = self.file.parent.name
        if not NAME.fullmatch(name):
            self.wrong(
                self.root,
                "name",
                f"the folder {quoted(name)} is no OPKG name; expected letters a-z, digits and + - . _",
            )
        title, summary = self.required("name"), self.required("summary")
        self.judge(name, title, summary)
        title = self.root.value("older:name") or title  # as it was called before it was converted
        version = self.version()
        return Opkg(
            name=name,
            title=title,
            version=version,
            summary=summary,
            class_=self._class(),
            generation=generation,
            provides=tuple(self._between("provides")),
            conflicts=tuple(self._between("conflicts")),
            requires=tuple(self._between("requires")),
            dependencies=tuple(self.dependencies()),
            filters=tuple(self.filters(self.root)),
            scripts=scripts,
            tests=tests,
            folder=self.file.parent,
            about=about.of(self.root, version),
        )

    # What each generation says in its own way.

    @abc.abstractmethod
    def judge(self, name: str, title: str, summary: str) -> None:
        """Find what stands where nothing of that kind may stand, and what is wrong with names and summary."""

    @abc.abstractmethod
    def version(self) -> str:
        """The OPKG's own."""

    @abc.abstractmethod
    def named(self, element: Element, relation: str) -> Iterable[Element]:
        """The other OPKGs that an element provides, conflicts with or requires."""

    @abc.abstractmethod
    def dependencies(self) -> Iterator[Dependency]:
        """Packages of the distribution."""

    @abc.abstractmethod
    def filters(self, element: Element) -> Iterator[Filter]:
        """Those that stand in an element."""

    # What they share.

    def required(self, tag: str) -> str:
        text = self.root.value(tag)
        if not text:
            self.wrong(self.root.first(tag) or self.root, tag, "missing; expected text")
        return text

    def _class(self) -> str:
        found = self.root.first("class")
        if found is None:
            return "third-party"
        if found.text not in CLASSES:
            self.wrong(
                found,
                "class",
                f"{quoted(found.text)} is not known; expected one of {listing(CLASSES)}"
                f"{did_you_mean(found.text, CLASSES)}",
            )
        return found.text

    def _between(self, relation: str) -> Iterator[Versioned]:
        for element in self.root.all(relation):
            for name in self.named(element, relation):
                one = self.versioned(name, relation, NAME)
                if one is not None:
                    yield one

    def versioned(self, element: Element, where: str, pattern: re.Pattern[str]) -> Versioned | None:
        """A name with `rel` and `version`; an operator may also stand before the version."""
        name, rel, version = element.text, element.attributes.get("rel", ""), element.attributes.get("version", "")
        version = version.strip()
        for operator in _OPERATORS:
            if not rel and version.startswith(operator):
                rel, version = operator, version[len(operator) :].strip()
        wrong = ""
        if not pattern.fullmatch(name):
            wrong = f"{quoted(name)} is not a name; expected letters, digits and + - ."
        elif rel and rel not in _OPERATORS:
            wrong = f"rel={quoted(rel)} is not known; expected one of > >= < <= ="
        elif (rel or "version" in element.attributes) and not VERSION.fullmatch(version):
            wrong = f"version={quoted(version)} is not a version; expected one like 1.2"
        if wrong:
            self.wrong(element, where, wrong)
            return None
        return Versioned(name, rel or ("=" if version else ""), version)

    def architecture(self, element: Element, where: str, name: str) -> str:
        """The name as it is, with a warning where no machine can have it."""
        self.warn(element, where, unfit_architecture(name))
        return name

    def distribution(self, element: Element, where: str, item: Versioned) -> Versioned:
        """The distribution that is meant, with a warning where none ever is."""
        meant = understood(item, self.codenames)
        self.warn(element, where, unfit_distribution(meant, self.codenames))
        return meant

    def wrong(self, element: Element, where: str, text: str) -> None:
        self.mistakes.append(Mistake(shown(self.file), element.line, where, text))

    def warn(self, element: Element, where: str, text: str) -> None:
        if text:
            self.warnings.append(Mistake(shown(self.file), element.line, where, text))
