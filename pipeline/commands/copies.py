"""Copies of frozen clusters, as those who type them see them: what each is called, and which can be had."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from typing import TYPE_CHECKING

from pipeline.errors import NotNow, WrongUse

if TYPE_CHECKING:
    from pipeline.cluster.lifecycle import Lifecycle
    from pipeline.tasks import Graph

#: What a copy may be called: its name is a folder's and a task's.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def thaw(graph: Graph, cluster: str, name: str | None, *, same_identity: bool = False) -> Lifecycle:
    """A copy of a frozen cluster that runs; without a `name` it gets one that is free."""
    from pipeline import frozen
    from pipeline.cluster import freezing, thawing
    from pipeline.cluster.described import Described
    from pipeline.cluster.lifecycle import Lifecycle

    today = None
    if cluster in graph.plan.clusters:
        life = graph.lifecycle(cluster)
        freezing.require_freezable(life)
        today = freezing.digests(life)
    cold = frozen.read(graph.engine.own, cluster) if cluster in _frozen(graph) else None
    if cold is None:
        if today is None:
            raise graph.unknown(cluster)
        raise NotNow(
            f"{cluster} has not been frozen",
            hint=f"doit cluster:{cluster} verifies it; doit freeze {cluster} then does",
        )
    thawing.require_fitting(cold, graph.engine, today)
    name = _free(graph, cluster) if name is None else _usable(graph, name)
    copy = Described(dataclasses.replace(cold.cluster, name=name), cold.host, copy_of=cluster)
    made = Lifecycle(graph.plan, name, graph.engine, copy)
    thawing.thaw(made, cold, same_identity=same_identity)
    return made


def _frozen(graph: Graph) -> list[str]:
    """The clusters of this checkout that are frozen."""
    return sorted(path.name for path in (graph.engine.own / "frozen").glob("[!.]*"))


def _free(graph: Graph, cluster: str) -> str:
    """A name that nobody has, and nobody else gets: its run folder is there now."""
    taken = graph.known()
    graph.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in itertools.count(1):
        name = f"{cluster}-{number}"
        with contextlib.suppress(FileExistsError):
            if name not in taken:
                (graph.run / name).mkdir(mode=0o700)
                return name
    raise AssertionError  # there is no end of numbers


def _usable(graph: Graph, name: str) -> str:
    """A name that somebody has chosen; raises where it cannot be a copy's."""
    if not _NAME.fullmatch(name) or name.startswith("testbed-"):
        raise WrongUse(
            f"a copy cannot be called {name!r}", hint="letters, digits, dots, dashes and underlines make a name"
        )
    if name in graph.known() and name not in graph.booted():
        raise NotNow(f"{name} is the name of a recipe", hint="give the copy another one")
    if name in graph.booted():
        raise NotNow(f"{name} runs already, or has not been ended", hint=f"doit stop:{name} ends it")
    return name
