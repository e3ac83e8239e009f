"""The archive's Packages files, kept small: only what resolving, locking and installing need.

A release's Packages file is 50 MB, most of it prose; `trimmed()` halves it, and apt reads it in half a second.  Its
signature is checked by apt before anything is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.packages.deb.relations import Relation, by_version, provides, relations

_KEPT = (
    b"Package|Version|Architecture|Essential|Protected|Important|Priority|Section|Source|Multi-Arch|Provides|"
    b"Pre-Depends|Depends|Conflicts|Breaks|Replaces|Installed-Size|Filename|Size|SHA256"
)
_FIELD = re.compile(rb"^(?:" + _KEPT + rb"):.*\n(?:[ \t].*\n)*|^\n", re.MULTILINE)
_NAME = re.compile(rb"^Package:[ \t]*(\S+)", re.MULTILINE)
_PROVIDES = re.compile(rb"^Provides:.*(?:\n[ \t].*)*", re.MULTILINE)


def trimmed(packages: bytes) -> bytes:
    """A Packages file without the fields that nothing here reads."""
    return b"".join(_FIELD.findall(packages))


@dataclass(frozen=True)
class Stanza:
    """One package of an index."""

    text: str

    def get(self, field: str) -> str:
        """A field's value, "" where there is none."""
        match = re.search(rf"^{field}: *(.*(?:\n[ \t].*)*)", self.text, re.MULTILINE)
        return match[1] if match else ""

    @property
    def name(self) -> str:
        return self.get("Package")

    @property
    def version(self) -> str:
        return self.get("Version")

    def provided(self, name: str) -> list[Relation]:
        """As what versions it provides that package."""
        return [one for group in relations(self.get("Provides")) for one in group if one.name == name]

    @property
    def dependencies(self) -> list[list[Relation]]:
        """What it needs: all of the groups, one alternative of each."""
        return relations(",".join(filter(None, (self.get("Pre-Depends"), self.get("Depends")))))


class Index:
    """All packages of a folder that `deb.index` made."""

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, list[tuple[bytes, int]]] = {}  # by name: stanzas, each with its suite's priority
        self._provided: list[tuple[str, bytes]] | None = None
        self.searched = _searched(folder / "sources.list")
        lists = folder / "lists"
        for file in sorted(lists.glob("*_Packages")):
            priority = _priority(lists, file.name)
            for text in file.read_bytes().split(b"\n\n"):
                if name := _NAME.search(text):
                    self._found.setdefault(name[1].decode(errors="replace"), []).append((text, priority))

    def __contains__(self, name: str) -> bool:
        return name in self._found or bool(self.providers(Relation(name)))

    def candidates(self, name: str) -> list[Stanza]:
        """Every version of a package, the one that apt would take first."""
        found = [(priority, _stanza(text)) for text, priority in self._found.get(name, ())]
        found.sort(key=lambda one: (one[0], by_version(one[1].version)), reverse=True)
        return [stanza for _, stanza in found]

    def providers(self, need: Relation) -> list[Stanza]:
        """The packages that provide what is needed, by name; of each the version that apt would take."""
        if self._provided is None:
            self._provided = [
                (name, field)
                for name, found in self._found.items()
                for text, _ in found
                for field in _PROVIDES.findall(text)
            ]
        word = need.name.encode()
        names = sorted({name for name, field in self._provided if word in field})
        return [
            first for first in (self.candidates(name)[0] for name in names) if provides(first.get("Provides"), need)
        ]

    def at(self, name: str, path: str) -> list[Stanza]:
        """The different stanzas for the file at `path`; one, unless the archive contradicts itself."""
        return list(dict.fromkeys(stanza for stanza in self.candidates(name) if stanza.get("Filename") == path))

    def minimal(self) -> list[str]:
        """What every installation has: essential and required packages, and apt."""
        names = {"apt"}
        for name, found in self._found.items():
            if any(b"\nEssential: yes" in text or b"\nPriority: required" in text for text, _ in found):
                names.add(name)
        if "usr-is-merged" in self._found:  # else apt takes the other alternative, which draws in all of perl
            names.add("usr-is-merged")
        return sorted(names)

    def closest(self, name: str, others: Iterable[str] = ()) -> list[str]:
        """Names that look like `name`."""
        names = [*others, *self._found]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
        if not near:  # a part of the name that is right says more than a bad overall likeness
            near = sorted((other for other in names if name in other), key=len)[:3]
        return near or difflib.get_close_matches(name, names, n=3, cutoff=0.5)


def _stanza(text: bytes) -> Stanza:
    return Stanza(text.decode(errors="replace").strip("\n") + "\n")


def _priority(lists: Path, packages: str) -> int:
    """apt's priority of the suite that a Packages file is of: backports are taken only where nothing else is meant."""
    releases = [
        file
        for kind in ("InRelease", "Release")
        for file in lists.glob(f"*_{kind}")
        if packages.startswith(file.name.removesuffix(kind))
    ]
    if not releases:
        return 500
    text = max(releases, key=lambda file: len(file.name)).read_text(errors="replace")
    if not re.search(r"^NotAutomatic: *yes", text, re.MULTILINE):
        return 500
    return 100 if re.search(r"^ButAutomaticUpgrades: *yes", text, re.MULTILINE) else 1


def _searched(sources: Path) -> str:
    """The suites and components of an index, as a person knows them."""
    lines = [line.split() for line in sources.read_text().splitlines()] if sources.exists() else []
    return ", ".join(f"{words[3]} ({' '.join(words[4:])})" for words in lines)
