"""What one can do to machines of running clusters, `doit vm VERB`: each module but shared ones has a `VERB`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import cast

from pipeline.cluster.acting import Action
from pipeline.verbs.rows import Verb

_SHARED = ("clusters", "names", "recipes", "rows")


@functools.cache
def verbs() -> Mapping[str, Verb]:
    """All there are, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)
    return {name: cast(Verb, importlib.import_module(f"{__name__}.{name}").VERB) for name in names}


def actions() -> Mapping[str, Action]:
    """Those that act on machines."""
    return {name: verb.action for name, verb in verbs().items() if verb.action is not None}
