"""The archive's Packages files, kept small: only what resolving, locking and installing need.

A release's Packages file is 50 MB, most of it prose; `trimmed()` halves it, and apt reads it in half a second.  Its
signature is checked by apt before anything is left out.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_KEPT = (
    b"Package|Version|Architecture|Essential|Protected|Important|Priority|Section|Source|Multi-Arch|Provides|"
    b"Pre-Depends|Depends|Conflicts|Breaks|Replaces|Installed-Size|Filename|Size|SHA256"
)
_FIELD = re.compile(rb"^(?:" + _KEPT + rb"):.*\n(?:[ \t].*\n)*|^\n", re.MULTILINE)
_PROVIDES = re.compile(rb"^Provides:.*$", re.MULTILINE)


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


class Index:
    """All packages of the Packages files in one folder."""

    def __init__(self, lists: Path) -> None:
        self._stanzas: dict[str, list[bytes]] = {}
        self._provided: bytes | None = None
        for file in sorted(lists.glob("*_Packages")):
            for stanza in file.read_bytes().split(b"\n\n"):
                if stanza:
                    # `Package` comes first in every stanza
                    self._stanzas.setdefault(stanza[9 : stanza.find(b"\n")].decode(), []).append(stanza)

    def __contains__(self, name: str) -> bool:
        return name in self._stanzas or self._is_provided(name)

    def _is_provided(self, name: str) -> bool:
        if self._provided is None:
            self._provided = b"\n".join(_PROVIDES.findall(b"\n".join(itertools.chain(*self._stanzas.values()))))
        pattern = rb"[ ,]" + re.escape(name.encode()) + rb"(?:[ ,(]|$)"
        return re.search(pattern, self._provided, re.MULTILINE) is not None

    def stanzas(self, name: str) -> list[Stanza]:
        """Every version of a package."""
        return [Stanza(text.decode().strip("\n") + "\n") for text in self._stanzas.get(name, ())]

    def versions(self, name: str) -> list[str]:
        """The versions there are of a package."""
        return [stanza.version for stanza in self.stanzas(name)]

    def find(self, name: str, path: str) -> Stanza:
        """The stanza of the file at `path`; KeyError where there is none."""
        for stanza in self.stanzas(name):
            if stanza.get("Filename") == path:
                return stanza
        raise KeyError(path)

    def minimal(self) -> list[str]:
        """What every installation has: essential and required packages, and apt."""
        names = {"apt"}
        for name, texts in self._stanzas.items():
            if any(b"\nEssential: yes" in text or b"\nPriority: required" in text for text in texts):
                names.add(name)
        if "usr-is-merged" in self._stanzas:  # else apt takes the other alternative, which draws in all of perl
            names.add("usr-is-merged")
        return sorted(names)

    def closest(self, name: str, others: Iterable[str] = ()) -> list[str]:
        """Names that look like `name`."""
        names = [*others, *self._stanzas]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
        if not near:  # a part of the name that is right says more than a bad overall likeness
            near = sorted((other for other in names if name in other), key=len)[:3]
        return near or difflib.get_close_matches(name, names, n=3, cutoff=0.5)
