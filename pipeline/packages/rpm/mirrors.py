"""Where a repository is: below the places that a person gives, else at the addresses that the recipe has for it, else
below the mirror that the recipe names.

Locks and indexes name the repository and never the place, so they are the same wherever they were made.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.packages.given import NoSource, as_url, how_to_give, places_of, said_by
from pipeline.packages.http import Connections
from pipeline.packages.rpm import addresses, metadata, mirrorlists
from pipeline.packages.rpm.metadata import File
from pipeline.packages.rpm.reading import read

_RECIPE = "the recipe"
#: How lists of mirrors are read.
_LISTS = {"mirrorlist": mirrorlists.plain, "metalink": mirrorlists.metalink}


@dataclass(frozen=True)
class Source:
    """One place where a repository is: below `url`, as `origin` says.

    Its `repomd.xml` must be one of `repomd`, where that names any.  It `is_sure` if nobody else may change on the way
    what the place sends, or if that would be seen.
    """

    url: str
    origin: str
    is_sure: bool
    repomd: tuple[File, ...] = ()

    def of(self, path: str) -> str:
        """The URL of one of its files."""
        return f"{self.url}/{quoted(path)}"


def quoted(path: str) -> str:
    """A path below a mirror as URLs have it."""
    return urllib.parse.quote(path.strip("/"), safe="/+~")


def sources(params: Mapping[str, Any], repository: Mapping[str, Any], connections: Connections) -> list[Source]:
    """The places of a repository, the best first; raises BuildError where there is none, as NoSource if that is since
    nobody has said where, or nothing can be reached."""
    places, origin = _places(params)
    own = addresses.kind_of(repository)
    if own and origin != said_by(str(params["distro"])):
        address = str(repository[own])
        if own == "url":
            return [_source(address, _RECIPE)]
        listed = _LISTS[own](read(connections, address, mirrorlists.LONGEST, _RECIPE), address)
        return [_source(mirror, address, listed.repomd) for mirror in listed.mirrors]
    return [_source(f"{place}/{quoted(repository['path'])}", origin) for place in places]


def _source(url: str, origin: str, repomd: tuple[File, ...] = ()) -> Source:
    """`origin` may be the address of a list, which others may change as well."""
    is_sure = not _can_be_changed_on_the_way(origin) and (bool(repomd) or not _can_be_changed_on_the_way(url))
    return Source(url.rstrip("/"), origin, is_sure, repomd)


def _can_be_changed_on_the_way(url: str) -> bool:
    """Whether others than the mirror itself may change what it sends."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost")


def _places(params: Mapping[str, Any]) -> tuple[list[str], str]:
    """The places below which repositories have their paths, and who said so; none where all have addresses."""
    distro = str(params["distro"])
    if given := places_of(distro):
        return [place.rstrip("/") for place in given], said_by(distro)
    if mirror := as_url(str(params.get("mirror", ""))):
        return [mirror.rstrip("/")], _RECIPE
    if all(map(addresses.kind_of, params["repositories"])):
        return [], _RECIPE
    raise NoSource(
        f"nobody has said where the packages of {distro} are",
        hint=f"{how_to_give(distro)}, or mirror = ... in recipes/distros/{distro}.toml",
    )


def bases(params: Mapping[str, Any]) -> list[str]:
    """The URLs below which a step reads."""
    places, _ = _places(params)
    return [*places, *(str(one["url"]) for one in params["repositories"] if one.get("url"))]


def releases(recipe: Mapping[str, Any]) -> Iterable[str]:
    """The URLs of what a distribution's mirror must have, from its recipe as it is written."""
    try:
        repositories = [one for one in recipe.get("repositories", []) if isinstance(one, dict)]
        params = {**recipe, "repositories": repositories}
        places, origin = _places(params)
    except NoSource:
        return []
    return list(_asked(params, places, is_given=origin != _RECIPE))


def _asked(recipe: Mapping[str, Any], places: Iterable[str], *, is_given: bool) -> Iterator[str]:
    for one in recipe["repositories"]:
        own = addresses.kind_of(one)
        if own and not is_given:
            address = addresses.expanded(str(one[own]), str(recipe.get("architecture", "x86_64")))
            yield f"{address.rstrip('/')}/{metadata.REPOMD}" if own == "url" else address
        else:
            yield from (f"{place}/{quoted(str(one.get('path', '')))}/{metadata.REPOMD}" for place in places)
