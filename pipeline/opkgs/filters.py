"""OPKG filters and their words: architectures and distributions by all of their names, and what can never fit.

An OPKG is written for many distributions, so most of its filters do not fit the one at hand and nobody wants to hear
of them.  But a word that fits no machine at all leaves packages out everywhere, and that is told.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.mistakes import did_you_mean, listing, quoted

#: (name of a distribution, its suite), both in lower case -> its version, as filters have it.
Codenames = Mapping[tuple[str, str], str]

#: Architectures of machines: those of the OPKG schema, and others that distributions have been made for.
ARCHITECTURES = frozenset(
    (
        "alpha",
        "amd64",
        "arm64",
        "armel",
        "armhf",
        "hppa",
        "i386",
        "ia64",
        "loong64",
        "mips",
        "mips64el",
        "mipsel",
        "ppc",
        "ppc64",
        "ppc64el",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
    )
)
#: Other names that OPKGs and distributions have for them, and the words with which they mean all.
_SAME = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "ia32": "i386",
    "i486": "i386",
    "i586": "i386",
    "i686": "i386",
    "aarch64": "arm64",
    "powerpc": "ppc",
    "ppc64le": "ppc64el",
    "all": "any",
    "noarch": "any",
}


class _Compat(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


class Target(Protocol):
    """What filters look at: a distribution."""

    @property
    def compat(self) -> _Compat: ...
    @property
    def architecture(self) -> str: ...


@dataclass(frozen=True)
class Versioned:
    """A name with a version to compare with; `rel` is >, >=, <, <= or =, and "" where no version is given."""

    name: str
    rel: str = ""
    version: str = ""

    def __str__(self) -> str:
        return f"{self.name}{self.rel}{self.version}"

    def admits(self, version: str) -> bool:
        """Whether that version fits."""
        if not self.rel:
            return True
        order = _compare(version, self.version)
        return {">": order > 0, ">=": order >= 0, "<": order < 0, "<=": order <= 0, "=": order == 0}[self.rel]


@dataclass(frozen=True)
class Filter:
    """When something applies: any of these distributions, on any of these architectures; empty = all."""

    distributions: tuple[Versioned, ...] = ()
    architectures: tuple[str, ...] = ()

    def fits(self, target: Target) -> bool:
        name, version = target.compat.name.lower(), target.compat.version
        distribution = not self.distributions or any(
            item.name.lower() == name and item.admits(version) for item in self.distributions
        )
        machines = {architecture(name) for name in self.architectures}
        return distribution and (not machines or not machines.isdisjoint(("any", architecture(target.architecture))))


def architecture(name: str) -> str:
    """The one name in `ARCHITECTURES` that is meant, "any" for all of them, or else a name that fits no machine.

    Debian's words for groups of architectures (linux-any, any-amd64) name the system first; here it is always Linux.
    """
    plain = re.sub("^(?:linux|any)-", "", name.lower())
    return _SAME.get(plain, plain)


def unfit_architecture(name: str) -> str:
    """Why no machine has that architecture, or ""."""
    if architecture(name) in (*ARCHITECTURES, "any"):
        return ""
    return (
        f"{quoted(name)} is no architecture, so this never fits; expected one of {listing(ARCHITECTURES)}"
        f"{did_you_mean(name, ARCHITECTURES)}"
    )


def understood(item: Versioned, codenames: Codenames) -> Versioned:
    """A distribution with the version that its codename stands for."""
    version = codenames.get((item.name.lower(), item.version.lower()), item.version)
    return replace(item, version=version)


def unfit_distribution(item: Versioned, codenames: Codenames) -> str:
    """Why no distribution of a known name ever is `item` (as `understood`), or why nobody can tell; else ""."""
    names = {name for name, _ in codenames}
    versions = {
        f"{version} ({suite})": version for (name, suite), version in codenames.items() if name == item.name.lower()
    }
    if not versions:
        return _misspelt(item.name, names, codenames)
    shorter = next((version for version in versions.values() if _is_part(version, item.version)), "")
    if shorter and item.rel == "=":
        return (
            f"{quoted(item.version)} is never the version of {item.name}, so this never fits; "
            f"did you mean {quoted(shorter)}?"
        )
    if item.rel and not item.version[:1].isdigit():
        so = "so this never fits" if item.rel == "=" else "and there is no order between them"
        return (
            f"{quoted(item.version)} is no version of {item.name} that is known here, {so}; "
            f"expected one like {listing(versions)}"
        )
    return ""


def _misspelt(name: str, names: set[str], codenames: Codenames) -> str:
    """What to say of a distribution that nobody knows: nothing, unless it is nearly one that is known."""
    release = next(
        (f"version {version} of {known}" for (known, suite), version in codenames.items() if suite == name.lower()), ""
    )
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    if not release and not near:
        return ""
    meant = release or quoted(near[0])
    return f"{quoted(name)} is no distribution that is known here, so this never fits; did you mean {meant}?"


def _is_part(version: str, longer: str) -> bool:
    """Whether a version says less than a longer one: "12" of "12.5"."""
    return re.fullmatch(re.escape(version) + "[^0-9A-Za-z].*", longer) is not None


def _compare(one: str, other: str) -> int:
    """The order of two versions as rpm has it (rpmvercmp): epoch, version, release; numbers as such, others as text."""
    left, right = _parts(one), _parts(other)
    return (left > right) - (left < right)


#: What comes first where two versions differ: ~ before the end, and that before all else.
_RANKS = {"~": 0, "": 1, "^": 2}
_LETTERS, _NUMBER = 3, 4


def _parts(version: str) -> list[tuple[int, int, str]]:
    epoch, _, rest = version.rpartition(":")
    upstream, _, release = rest.rpartition("-") if "-" in rest else (rest, "", "")
    return [_part(epoch if epoch.isdecimal() else "0"), *_words(upstream), *_words(release)]


def _words(text: str) -> list[tuple[int, int, str]]:
    return [_part(word) for word in (*re.findall(r"[~^]|[0-9]+|[A-Za-z]+", text), "")]


def _part(word: str) -> tuple[int, int, str]:
    """A number has the order of its digits, however many they are."""
    if word.isdecimal():
        digits = word.lstrip("0")
        return _NUMBER, len(digits), digits
    return _RANKS.get(word, _LETTERS), 0, word
