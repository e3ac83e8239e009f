"""What a person can name as the place of packages: a mirror's tree, one repository, a folder of packages, and an image
of any of these.

A folder and an image may hold packages without metadata, anywhere below: such a place is *bare*.  One that has metadata
of any repository is not: its packages are those that metadata name, under the signature that these may have.
"""

from __future__ import annotations

import os
import posixpath
import re
import urllib.parse
import urllib.request
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.packages.given import NoSource
from pipeline.packages.http import Connections
from pipeline.packages.rpm import metadata
from pipeline.packages.rpm.reading import read
from pipeline.run import run

#: Seconds to read what an image holds, or a part of it: some gigabytes at most.
_DEADLINE = 1200


class Place:
    """A place on the web: what it has is found out by asking.  Its files are read below `url`."""

    def __init__(self, url: str, origin: str, connections: Connections) -> None:
        self.url = url.rstrip("/")
        self.origin = origin
        self._connections = connections
        self._unreached: NoSource | None = None

    def require_repository(self, path: str) -> None:
        """Raise BuildError where there is none below `path`, "" = at the top."""
        if self._unreached:  # which costs seconds
            raise self._unreached
        url = f"{self.url}/{quoted(posixpath.join(path, metadata.REPOMD))}"
        try:
            read(self._connections, url, metadata.LONGEST_REPOMD, self.origin)
        except NoSource as error:
            self._unreached = error
            raise

    def packages(self) -> list[str]:
        """The paths of all packages of a bare place, where that can be known; none of others."""
        return []

    def bring(self, paths: Sequence[str]) -> None:
        """Have these files below `url`, as far as the place has them."""

    def drop(self, path: str) -> None:
        """What was brought is wanted no more."""


class Folder(Place):
    """A folder of this machine."""

    def packages(self) -> list[str]:
        top = folder_of(self.url)
        found = (os.path.join(at, name) for at, _, names in os.walk(top) for name in names)
        return _bare([os.path.relpath(path, top) for path in found])


class Image(Place):
    """An image of a disc, read as what bsdtar(1) makes of it; what is wanted of it is unpacked to `folder`."""

    def __init__(self, file: Path, origin: str, connections: Connections, folder: Path) -> None:
        super().__init__((folder / file.name).as_uri(), origin, connections)
        self._file = file
        self._folder = folder / file.name
        self._folder.mkdir(parents=True)
        try:
            listed = run(["bsdtar", "-t", "-f", file], timeout=_DEADLINE).stdout
        except CommandError as error:
            raise BuildError(
                f"{file} is no image that can be read",
                tail=error.tail,
                hint=f"it is from {origin}: name a folder, a URL or an ISO image that was copied to its end",
            ) from None
        # whoever made it may have named any file of ours
        self._names = frozenset(name for name in map(posixpath.normpath, listed.splitlines()) if _is_below(name))

    def require_repository(self, path: str) -> None:
        below = posixpath.join(path, metadata.REPOMD)
        if below not in self._names:
            raise BuildError(f"{self._file}: no {below} in it", hint=f"it is from {self.origin}")
        self.bring([name for name in self._names if name.startswith(f"{posixpath.dirname(below)}/")])

    def packages(self) -> list[str]:
        return _bare(self._names)

    def bring(self, paths: Sequence[str]) -> None:
        wanted = sorted(self._names.intersection(paths))
        if not wanted:
            return
        listed = self._folder.with_name("wanted")  # as patterns, in which these mean others
        listed.write_text("\0".join(re.sub(r"([\\*?\[])", r"\\\1", name) for name in wanted))
        argv: list[str | Path] = ["bsdtar", "-x", "-o", "-f", self._file, "-C", self._folder, "--null", "-T", listed]
        run(argv, timeout=_DEADLINE, hint=f"{self._file} is damaged, or there is no room for what is wanted of it")
        for at, folders, names in os.walk(self._folder):
            for name in [*folders, *names]:
                if (link := Path(at, name)).is_symlink():  # it would lead to files of ours
                    link.unlink()

    def drop(self, path: str) -> None:
        (self._folder / path).unlink(missing_ok=True)


def place(url: str, origin: str, connections: Connections, folder: Path) -> Place:
    """What is there; an image is unpacked below `folder`.  Raises BuildError for a path at which nothing is."""
    if not url.startswith("file:"):
        return Place(url, origin, connections)
    path = folder_of(url)
    if path.is_dir():
        return Folder(url, origin, connections)
    if path.is_file():
        return Image(path, origin, connections, folder)
    raise NoSource(f"{path}: no such file or folder", hint=f"it is from {origin}")


def quoted(path: str) -> str:
    """A path below a place as URLs have it."""
    return urllib.parse.quote(path.strip("/"), safe="/+~")


def folder_of(url: str) -> Path:
    """Where a `file:` URL leads."""
    return Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))


def _is_below(name: str) -> bool:
    """Whether a normal path leads nowhere but below the folder that it is taken from."""
    return not name.startswith("/") and ".." not in name.split("/")


def _bare(paths: Collection[str]) -> list[str]:
    """Those of packages that can be installed, if none is of metadata."""
    if any(f"/{path}".endswith(f"/{metadata.REPOMD}") for path in paths):
        return []
    return sorted(path for path in paths if path.endswith(".rpm") and not path.endswith((".src.rpm", ".nosrc.rpm")))
