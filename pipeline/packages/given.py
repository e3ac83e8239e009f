"""The mirror that a person gives for one distribution: `doit --mirror NAME=WHERE`, or a variable in the environment."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

_VARIABLE = "XEN_OSCAR_MIRROR_{}"


def variable_of(distro: str) -> str:
    """The variable that gives a distribution another mirror, like XEN_OSCAR_MIRROR_ROCKY9."""
    return _VARIABLE.format(distro.upper().replace("-", "_"))


def mirror_of(distro: str) -> str:
    """The URL (deb: two with a space between) that was given for a distribution, "" where none was."""
    return as_url(os.environ.get(variable_of(distro), "").strip())


def as_url(where: str) -> str:
    """A mirror that may also be named by its folder."""
    if not where or urllib.parse.urlsplit(where).scheme:
        return where
    return Path(where).expanduser().absolute().as_uri()
