"""Locks: which packages there will be, to the byte, whatever their family."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

#: What a lock's file is called, in the artifact that it is.
NAME = "lock.json"
#: And the file that says which packages are in an artifact that was made of none.
VERSIONS = "versions.json"

_VERSION = re.compile(r"(?:(\d+):)?(.*?)(?:-([^-]+))?", re.DOTALL)


@dataclass(frozen=True)
class LockedPackage:
    """One package.

    `epoch`, `version` and `release` are its version's parts, "" where it has none of that kind.  `path` is that of its
    file on a mirror of `archive`, `size` is in bytes, `sha256` in hexadecimal digits; `text` is what the repository's
    metadata say of it, in the family's own form.  `sha1` is there instead where an archive of old knows nothing better.
    """

    name: str
    epoch: str
    version: str
    release: str
    architecture: str
    archive: str
    path: str
    size: int
    sha256: str
    text: str
    sha1: str = ""

    @property
    def evr(self) -> str:
        """The whole version: [EPOCH:]VERSION[-RELEASE]."""
        return (f"{self.epoch}:" if self.epoch else "") + self.version + (f"-{self.release}" if self.release else "")

    @property
    def file(self) -> str:
        """What its file is called."""
        return PurePosixPath(self.path).name


def parts(evr: str) -> tuple[str, str, str]:
    """Epoch, version and release of a whole version: both families write it so (deb-version(7); rpm-version(7))."""
    match = _VERSION.fullmatch(evr)
    assert match is not None  # whatever there is is a version
    return match[1] or "", match[2], match[3] or ""


def read(file: Path) -> list[LockedPackage]:
    """The packages of a lock."""
    return [LockedPackage(**package) for package in json.loads(file.read_bytes())["packages"]]


def versions(packages: Iterable[LockedPackage]) -> dict[str, str]:
    """Package -> whole version; of one that is there for several architectures all of them, as a machine lists it."""
    found: dict[str, list[str]] = {}
    for one in packages:
        found.setdefault(one.name, []).append(one.evr)
    return {name: " ".join(sorted(each)) for name, each in found.items()}


def read_versions(file: Path) -> dict[str, str]:
    """Package -> whole version, of packages that no lock names."""
    found: dict[str, str] = json.loads(file.read_bytes())
    return found


def write_versions(file: Path, versions: Mapping[str, str]) -> None:
    """Write down which packages there are."""
    file.write_text(json.dumps(versions, indent=1, sort_keys=True) + "\n")


def write(file: Path, packages: Iterable[LockedPackage]) -> None:
    """Write a lock, sorted by name and architecture."""
    ordered = sorted(packages, key=lambda package: (package.name, package.architecture))
    content = {"packages": [dataclasses.asdict(package) for package in ordered]}
    file.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
