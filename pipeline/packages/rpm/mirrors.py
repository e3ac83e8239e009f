"""Where the repositories of a distribution are: below the mirror that its recipe names, or the person gave."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BuildError
from pipeline.packages.given import as_url, mirror_of, variable_of


@dataclass(frozen=True)
class Mirrors:
    """A distribution's: the URL of its mirror, and who said so."""

    distro: str
    main: str
    origin: str

    @property
    def can_be_changed_on_the_way(self) -> bool:
        """Whether others than the mirror itself may change what it sends."""
        url = urllib.parse.urlsplit(self.main)
        return url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost")

    def base(self, path: str) -> str:
        """The URL of a repository, or of what else lies below the mirror."""
        return f"{self.main}/{urllib.parse.quote(path.strip('/'), safe='/+~')}".rstrip("/")


def mirrors_for(params: Mapping[str, Any]) -> Mirrors:
    """That of the step with these parameters; raises BuildError where nobody has said which."""
    distro = str(params["distro"])
    variable = variable_of(distro)
    for url, origin in ((mirror_of(distro), variable), (as_url(str(params["mirror"])), "its recipe")):
        if url:
            return Mirrors(distro, url.rstrip("/"), origin)
    raise BuildError(
        f"nobody has said where the packages of {distro} are",
        hint=f"--mirror {distro}=PATH_OR_URL, {variable}=PATH_OR_URL, or mirror = ... in recipes/distros/{distro}.toml",
    )


def bases(params: Mapping[str, Any]) -> list[str]:
    """The URLs below which a step reads."""
    return [mirrors_for(params).main]


def releases(recipe: Mapping[str, Any]) -> Iterable[str]:
    """The URLs of what a distribution's mirror must have, from its recipe as it is written."""
    try:
        mirrors = mirrors_for({"mirror": "", **recipe})
    except BuildError:
        return []
    paths = [str(one.get("path", "")) for one in recipe.get("repositories", []) if isinstance(one, dict)]
    return [f"{mirrors.base(path)}/repodata/repomd.xml" for path in paths]
