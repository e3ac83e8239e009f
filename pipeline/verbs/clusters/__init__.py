"""What one can do to whole clusters, `doit cluster VERB`: each module has a `VERB`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import cast

from pipeline.verbs.rows import Verb


@functools.cache
def verbs() -> Mapping[str, Verb]:
    """All there are, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: cast(Verb, importlib.import_module(f"{__name__}.{name}").VERB) for name in names}
