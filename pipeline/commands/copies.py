"""Copies of frozen clusters, as those who type them see them: what each is called, and which can be had."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import sys
from typing import TYPE_CHECKING

from pipeline import naming
from pipeline.errors import NotNow, UserError, WrongUse
from pipeline.run import cleaning_up

if TYPE_CHECKING:
    from pipeline.cluster.lifecycle import Lifecycle
    from pipeline.frozen import Frozen
    from pipeline.tasks import Graph

#: What a copy may be called: its name is a folder's and a task's.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
#: Statuses from here on are those of runs that a signal has ended.
_SIGNALLED = 128


def thaw(graph: Graph, cluster: str, name: str | None, *, same_identity: bool = False) -> Lifecycle:
    """A copy of a frozen cluster that runs; without a `name` it gets one that is free.  Where there is no frozen one of
    which a copy would be right, the cluster is booted cold and frozen first, and why is told."""
    from pipeline.cluster import thawing
    from pipeline.cluster.described import Described
    from pipeline.cluster.lifecycle import Lifecycle

    if name is not None:
        _require_usable(graph, name)
    cold, _ = _find(graph, cluster)
    if cold is None:
        graph, cold = _freeze_first(graph, cluster)
    name = name or _free(graph, cluster)
    copy = Described(dataclasses.replace(cold.cluster, name=name), cold.host, copy_of=cluster)
    made = Lifecycle(graph.plan, name, graph.engine, copy)
    thawing.thaw(made, cold, same_identity=same_identity)
    return made


def _find(graph: Graph, cluster: str) -> tuple[Frozen | None, str]:
    """A frozen cluster of which a copy would be right, or why there is none; raises where there can be none."""
    from pipeline import frozen
    from pipeline.cluster import freezable, thawing

    today = None
    if cluster in graph.plan.clusters:
        life = graph.lifecycle(cluster)
        freezable.require(life)
        today = freezable.digests(life)
    reason = "it has not been frozen"
    if cluster in _frozen(graph):  # a word that was typed is no path
        try:
            cold = frozen.read(graph.engine.own, cluster)
            reasons = thawing.misfits(cold, graph.engine, today) if cold else []
        except NotNow as error:
            cold, reasons = None, [error.message]
        if cold is not None and not reasons:
            return cold, ""
        reason = f"what is frozen does not fit: {'; '.join(reasons)}" if reasons else reason
        if today is None and reasons:
            raise NotNow(f"frozen {cluster} cannot be thawed, and has no recipe any more: {'; '.join(reasons)}")
    if today is None:
        raise graph.unknown(cluster)
    return None, reason


def _freeze_first(graph: Graph, cluster: str) -> tuple[Graph, Frozen]:
    """What `doit cluster:NAME` does, and freeze it; by one run at a time.  What this run has booted for that is ended,
    but if it has failed: then somebody may want to look at it."""
    from pipeline.cluster import freezing
    from pipeline.commands.run import run_tasks
    from pipeline.locks import locked

    folder = graph.engine.own / "frozen"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(
        folder / f".{cluster}.first.lock", waiting=lambda: _tell(f"{cluster}: another run freezes it; waiting")
    ):
        graph = _anew(graph)
        cold, reason = _find(graph, cluster)
        if cold is not None:
            return graph, cold
        life = graph.lifecycle(cluster)
        ran = life.machines().runs()
        _tell(f"{cluster}: {'frozen as it runs' if ran else 'booted cold and frozen'} first: {reason}")
        graph.engine.store.let_go()
        status = run_tasks(naming.phase("cluster", cluster))
        with contextlib.ExitStack() as stack:
            # another run may have booted it meanwhile, whose cluster it is then
            if not ran and life.booted_here and (status == 0 or status >= _SIGNALLED):
                stack.callback(_end, life)
            if status:
                error = UserError(f"{cluster} is not frozen: doit cluster:{cluster} ended with status {status}")
                error.status = status
                raise error
            graph = _anew(graph)
            cold, _ = _find(graph, cluster)
            if cold is None:
                cold = freezing.freeze(graph.lifecycle(cluster))
        return graph, cold


def _end(life: Lifecycle) -> None:
    with cleaning_up():
        life.stop()


def _anew(graph: Graph) -> Graph:
    """The plan and what is built by now; what was held for the one before is let go of."""
    from pipeline.tasks import Graph

    graph.engine.store.let_go()
    return Graph(graph.recipes.parent)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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


def _require_usable(graph: Graph, name: str) -> None:
    """Raise where a name that somebody has chosen cannot be a copy's."""
    if not _NAME.fullmatch(name) or name.startswith("testbed-"):
        raise WrongUse(
            f"a copy cannot be called {name!r}", hint="letters, digits, dots, dashes and underlines make a name"
        )
    if name in graph.known() and name not in graph.booted():
        raise NotNow(f"{name} is the name of a recipe", hint="give the copy another one")
    if name in graph.booted():
        raise NotNow(f"{name} runs already, or has not been ended", hint=f"doit stop:{name} ends it")
