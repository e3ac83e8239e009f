"""The places that a person gives for one distribution's packages: `doit --mirror NAME=WHERE`, a variable in the
environment, or a file of settings.  Whoever starts steps puts all of it into the environment."""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import BuildError, UserError
from pipeline.mistakes import no_such

#: The file in which a person keeps them, beside the recipes.
SETTINGS = "mirrors.toml"

#: The schemes of URLs at which packages can be.
SCHEMES = ("http", "https", "file")
_VARIABLE = "XEN_OSCAR_MIRROR_{}"
#: Between places: a folder's name may have spaces in it.
_BETWEEN = re.compile(r"\s+(?=/|[a-z]+:)")


class NoSource(BuildError):
    """Nobody has said where packages are, or none of the places could be reached."""


def variable_of(distro: str) -> str:
    """The variable that gives a distribution other places, like XEN_OSCAR_MIRROR_ROCKY9."""
    return _VARIABLE.format(distro.upper().replace("-", "_"))


def said_by(distro: str) -> str:
    """Who has given them, for messages."""
    return f"--mirror, {variable_of(distro)} or {SETTINGS}"


def how_to_give(distro: str) -> str:
    """How a person says where the packages of a distribution are."""
    where = "PATH_OR_URL"
    return (
        f"--mirror {distro}={where} (a folder, a web server or an ISO image), {variable_of(distro)}={where}, or "
        f'{distro} = "{where}" in {SETTINGS}'
    )


def places_of(distro: str) -> list[str]:
    """The URLs that were given for a distribution, in their order."""
    variable = variable_of(distro)
    found = [place for place in _BETWEEN.split(os.environ.get(variable, "").strip()) if place]
    for place in found:
        if place.startswith((".", "~")):  # whose, as steps run elsewhere?
            raise UserError(f"{variable}: {place} is no whole path", hint=f"{variable}=/FOLDER, or a URL")
    return [as_url(place) for place in found]


def give(distro: str, places: list[str]) -> None:
    """Let these be the places, for all that this process starts."""
    os.environ[variable_of(distro)] = " ".join(map(as_url, places))


def take(words: Sequence[str], known: Sequence[str]) -> None:
    """Let what `--mirror` says be the places, NAME=WHERE each; `known` are the distributions that there are."""
    places: dict[str, list[str]] = {}
    for word in words:
        distro, _, where = word.partition("=")
        if not where:
            raise UserError(f"--mirror {word} says not where", hint="--mirror NAME=FOLDER_OR_URL")
        if distro not in known:
            raise no_such("distribution", distro, known)
        places.setdefault(distro, []).append(where)
    for distro, found in places.items():
        give(distro, found)


def as_url(where: str) -> str:
    """A place that may also be named by its path."""
    scheme = scheme_of(where)
    if scheme and scheme not in SCHEMES:
        raise UserError(f"{where} is no mirror", hint=f"a folder, or a URL of {', '.join(SCHEMES)}")
    return where if scheme or not where else _folder(where)


def scheme_of(url: str) -> str:
    """The scheme of a URL, "" where it has none, and "?" where the URL names no host on the web, or no port that can
    be."""
    try:
        parts = urllib.parse.urlsplit(url)
        reaches = parts.scheme not in ("http", "https") or (parts.hostname and parts.port != 0)
    except ValueError:
        return "?"
    return parts.scheme if reaches else "?"


def _folder(where: str) -> str:
    return Path(where).expanduser().absolute().as_uri()
