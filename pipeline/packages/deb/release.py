"""The Release files of an archive's suites: which components there are, and which of them are empty.

apt keeps no empty Packages file, and leaves out without an error what a suite does not have.  So what is missing after
it ran is looked up here: it is empty, not there, or not readable.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.mistakes import did_you_mean

#: What apt calls a Release file and its signature.
NAMES = ("InRelease", "Release", "Release.gpg")


@dataclass(frozen=True)
class Release:
    """One suite's Release file; `stem` is its path without one of `NAMES` at the end."""

    suite: str
    stem: Path
    text: str

    @classmethod
    def read(cls, lists: Path, suite: str) -> Release:
        """That of a suite, from where apt put it."""
        for name in NAMES[:2]:
            for file in lists.glob(f"*_dists_{suite.replace('/', '_')}_{name}"):
                return cls(suite, file.with_name(file.name.removesuffix(name)), file.read_text(errors="replace"))
        raise BuildError(f"apt kept no Release file of {suite}")

    def field(self, name: str) -> list[str]:
        """The words of a field."""
        match = re.search(rf"^{name}: *(.*)", self.text, re.MULTILINE)
        return match[1].split() if match else []

    def indexes(self, component: str, architecture: str) -> set[str]:
        """The Packages files that it has checksums of: "" for the plain one, ".xz" and the like for packed ones."""
        return set(
            re.findall(rf" {re.escape(component)}/binary-{architecture}/Packages(\.\w+)?$", self.text, re.MULTILINE)
        )

    def has(self, component: str, architecture: str) -> bool:
        """Whether the suite has that component, be it empty."""
        return component in self.field("Components") or bool(self.indexes(component, architecture))


def components_of(
    releases: Sequence[Release],
    components: Sequence[str],
    architecture: str,
    fetched: Container[tuple[str, str]],
    where: str,
) -> dict[str, list[str]]:
    """The components of each suite, whether apt fetched something for them or they are empty; BuildError for what
    no suite has, and for what apt cannot read."""
    for release in releases:
        for component in components:
            indexes = release.indexes(component, architecture)
            if (release.suite, component) not in fetched and indexes and "" not in indexes:
                raise BuildError(
                    f"{where}: the Release file of {release.suite} has checksums of {component}'s packed index "
                    f"(Packages{min(indexes)}) and not of Packages itself, so apt does not read it",
                    hint="whoever makes the archive must list both, packed and unpacked (apt-ftparchive does)",
                )
        known = release.field("Architectures")
        if known and architecture not in known and not any((release.suite, one) in fetched for one in components):
            raise BuildError(
                f"{where}: {release.suite} has no packages for {architecture}; it is for {', '.join(known)}",
                hint="correct `mirror` or `suites` in the recipe",
            )
    found = {release.suite: [one for one in components if release.has(one, architecture)] for release in releases}
    there = sorted({one for release in releases for one in release.field("Components")})
    missing = [one for one in components if not any(one in has for has in found.values())]
    lost = [suite for suite, has in found.items() if not has]
    if missing or lost:
        what = (
            f"no suite has the component {missing[0]}{did_you_mean(missing[0], there)}"
            if missing
            else f"{lost[0]} has none of the components {', '.join(components)}"
        )
        raise BuildError(
            f"{where}: {what}",
            hint="correct `suites` and `components` in the recipe; there are "
            f"{', '.join(there) or 'none'} in {', '.join(found)}",
        )
    return found
