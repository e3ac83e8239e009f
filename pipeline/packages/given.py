"""The mirror that a person gives for one distribution: `doit --mirror NAME=WHERE`, or a variable in the environment."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from pipeline.errors import UserError

_SCHEMES = ("http", "https", "file")
_VARIABLE = "XEN_OSCAR_MIRROR_{}"


def variable_of(distro: str) -> str:
    """The variable that gives a distribution another mirror, like XEN_OSCAR_MIRROR_ROCKY9."""
    return _VARIABLE.format(distro.upper().replace("-", "_"))


def mirror_of(distro: str) -> str:
    """The URL (deb: two with a space between) that was given for a distribution, "" where none was."""
    variable = variable_of(distro)
    where = os.environ.get(variable, "").strip()
    if where.startswith((".", "~")):  # whose, as steps run elsewhere?
        raise UserError(f"{variable}: {where} is no whole path", hint=f"{variable}=/FOLDER, or a URL")
    return as_url(where)


def as_url(where: str) -> str:
    """A mirror that may also be named by its folder."""
    try:
        scheme = urllib.parse.urlsplit(where).scheme
    except ValueError:
        scheme = "?"
    if scheme and scheme not in _SCHEMES:
        raise UserError(f"{where} is no mirror", hint=f"a folder, or a URL of {', '.join(_SCHEMES)}")
    return where if scheme or not where else _folder(where)


def _folder(where: str) -> str:
    return Path(where).expanduser().absolute().as_uri()
