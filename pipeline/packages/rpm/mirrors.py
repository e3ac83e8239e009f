"""Where a repository is: at the places that a person gives, else at the addresses that the recipe has for it, else
below the mirror that the recipe names.

Locks and indexes name the repository and never the place, so they are the same wherever they were made.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError
from pipeline.packages.given import NoSource, as_url, how_to_give, places_of, said_by
from pipeline.packages.http import Connections
from pipeline.packages.rpm import addresses, metadata, mirrorlists
from pipeline.packages.rpm.metadata import File
from pipeline.packages.rpm.places import Place, place, quoted
from pipeline.packages.rpm.reading import read

_RECIPE = "the recipe"
#: How lists of mirrors are read.
_LISTS = {"mirrorlist": mirrorlists.plain, "metalink": mirrorlists.metalink}


@dataclass(frozen=True)
class Source:
    """One place where a repository is: at `path` of a place, "" = at its top.

    Its `repomd.xml` must be one of `repomd`, where that names any.  It `is_bare` where it has none.
    """

    place: Place
    path: str = ""
    repomd: tuple[File, ...] = ()
    is_bare: bool = False

    @property
    def url(self) -> str:
        return f"{self.place.url}/{quoted(self.path)}".rstrip("/")

    def of(self, path: str) -> str:
        """The URL of one of its files."""
        return f"{self.url}/{quoted(path)}"

    def bring(self, paths: Sequence[str]) -> None:
        """Have these of its files at their URLs."""
        self.place.bring([f"{self.path}/{path}".lstrip("/") for path in paths])


class Sources:
    """Where the repositories of the step with these parameters are.

    Images are unpacked below `work`.  With `only_sure` no source will do that somebody else could change on the way.
    """

    def __init__(self, params: Mapping[str, Any], work: Path, *, only_sure: bool) -> None:
        self.connections = Connections()
        self._distro = str(params["distro"])
        self._only_sure = only_sure
        urls, origin = _places(params)
        self._is_given = origin != _RECIPE
        self._places: list[Place] = []
        self._errors: list[BuildError] = []
        for number, url in enumerate(urls):
            try:
                self._require_sure(url, origin)
                self._places.append(place(url, origin, self.connections, work / f"image-{number}"))
            except BuildError as error:
                self._errors.append(error)

    def of(self, repository: Mapping[str, Any]) -> list[Source]:
        """The sources of a repository, the best first; raises BuildError where there is none, as NoSource if that is
        since nothing can be reached.

        Of what a person gives these are the places that have it at its path, or else are one repository, which stands
        for all of the recipe, or else those that are bare: then all of these are one repository together.
        """
        own = addresses.kind_of(repository)
        if own and not self._is_given:
            errors: list[BuildError] = []
            try:
                found = self._own(own, str(repository[own]), errors)
            except BuildError as error:
                raise self.none_has(repository, [error]) from None
        else:
            errors = list(self._errors)
            found = self._holding(str(repository["path"]).strip("/"), errors)
            if not found or len(self._places) > 1:
                found += self._holding("", errors)
            found = found or [Source(one, is_bare=True) for one in self._places if one.packages()]
        if not found:
            raise self.none_has(repository, errors)
        return found

    def none_has(self, repository: Mapping[str, Any], errors: Sequence[BuildError]) -> BuildError:
        """The one error for what is wrong with every source."""
        told = list(dict.fromkeys(error.message for error in errors))
        kind = NoSource if all(isinstance(error, NoSource) for error in errors) else BuildError
        how = "; or ".join([*self._common(errors), f"say where it is: {how_to_give(self._distro)}"])
        if len(told) > 1:
            what = f"no place has the repository {repository['name']} of {self._distro}"
            return kind(what, tail="\n".join(told), hint=how)
        if kind is NoSource:
            return NoSource(told[0], hint=how)
        return errors[0]

    @staticmethod
    def _common(errors: Sequence[BuildError]) -> list[str]:
        """What would help against all of them alike, if anything would."""
        hints = {error.hint for error in errors}
        return list(hints - {""}) if len(hints) == 1 else []

    def _holding(self, path: str, errors: list[BuildError]) -> list[Source]:
        found = []
        for one in self._places:
            try:
                one.require_repository(path)
                found.append(Source(one, path))
            except BuildError as error:
                errors.append(error)
        return found

    def _own(self, kind: str, address: str, errors: list[BuildError]) -> list[Source]:
        if kind == "url":
            self._require_sure(address, _RECIPE)
            return [Source(Place(address, _RECIPE, self.connections))]
        found = []
        listed = _LISTS[kind](read(self.connections, address, mirrorlists.LONGEST, _RECIPE), address)
        for mirror in listed.mirrors:
            try:
                if not listed.repomd or can_be_changed_on_the_way(address):
                    self._require_sure(mirror, address)
                found.append(Source(Place(mirror, address, self.connections), repomd=listed.repomd))
            except BuildError as error:
                errors.append(error)
        return found

    def _require_sure(self, url: str, origin: str) -> None:
        if self._only_sure and (can_be_changed_on_the_way(url) or can_be_changed_on_the_way(origin)):
            raise BuildError(
                f"nothing would check what comes from {url}: the recipe of {self._distro} names no keys",
                hint="keyrings = [...] in the recipe, or an https:// mirror, or a folder",
            )


def can_be_changed_on_the_way(url: str) -> bool:
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
    """The URLs of what a distribution's mirror must have, from its recipe as it is written; not of a folder or an
    image, which may be of several kinds."""
    try:
        repositories = [one for one in recipe.get("repositories", []) if isinstance(one, dict)]
        params = {**recipe, "repositories": repositories}
        places, origin = _places(params)
    except NoSource:
        return []
    return list(_asked(params, places, is_given=origin != _RECIPE))


def _asked(recipe: Mapping[str, Any], places: Sequence[str], *, is_given: bool) -> Iterator[str]:
    for one in recipe["repositories"]:
        own = addresses.kind_of(one)
        if own and not is_given:
            address = addresses.expanded(str(one[own]), str(recipe.get("architecture", "x86_64")))
            yield f"{address.rstrip('/')}/{metadata.REPOMD}" if own == "url" else address
        elif len(places) == 1 and not places[0].startswith("file:"):
            yield f"{places[0]}/{quoted(str(one.get('path', '')))}/{metadata.REPOMD}"
