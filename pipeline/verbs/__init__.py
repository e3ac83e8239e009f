"""What one can do to machines of running clusters, `doit vm VERB`: each module here but `rows` and `names` is a verb.

A verb has `PURPOSE` (for people), `arguments` (what may be typed after it) and `rows` (what there is to tell of it, as
it happens: a row, or an error that concerns only a part).  Those that act on machines have an `ACTION` as well.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Protocol, cast

from pipeline.cluster.acting import Action
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row

_SHARED = ("names", "rows")


class Verb(Protocol):
    """A module here."""

    PURPOSE: str

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what it takes."""

    def rows(self, clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
        """Do it, and tell."""


@functools.cache
def verbs() -> Mapping[str, Verb]:
    """All there are, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)
    return {name: cast("Verb", importlib.import_module(f"{__name__}.{name}")) for name in names}


def actions() -> Mapping[str, Action]:
    """Those that act on machines."""
    return {name: verb.ACTION for name, verb in verbs().items() if hasattr(verb, "ACTION")}
