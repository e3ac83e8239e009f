"""Steps -> doit tasks, and the last tasks, which run machines.

A step's task has no file dependencies: whether it is up to date is asked of the store (`Engine.up_to_date`), and
doit only keeps the order.  Tasks that run machines ask libvirt (`boot`, `install`, `start`) or the store (`verify`:
a verdict is an artifact as well).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import checkout, events, naming
from pipeline.engine import Engine
from pipeline.errors import ManifestError, NotNow, UserError
from pipeline.hosts import kinds
from pipeline.mistakes import no_such
from pipeline.packages.given import NoSource
from pipeline.planned import load_plan
from pipeline.step import Plan

if TYPE_CHECKING:
    from pipeline.cluster.course import Phase
    from pipeline.cluster.lifecycle import Lifecycle
    from pipeline.cluster.testbed import GivenHost, TestbedHost

Task = dict[str, Any]

_LINE = "\n"
#: What of a file's name can be a task's: doit takes `=` for something else, and `*` for any.
_TASK_NAME = re.compile(r"[A-Za-z0-9._-]+")

#: What the run folder of a testbed is called, before its host's name.
_TESTBED = naming.testbed("")


class Group:
    """The tasks of one kind, as doit finds them in `dodo.py`: by `create_doit_tasks`, and named by its `basename`."""

    def __init__(self, kind: str, doc: str, tasks: Callable[[], Iterator[Task]]) -> None:
        def create_doit_tasks() -> Iterator[Task]:
            yield from tasks()

        create_doit_tasks.__doc__ = doc
        create_doit_tasks.basename = kind  # type: ignore[attr-defined]
        self.create_doit_tasks = create_doit_tasks


class Graph:
    """The task graph of one checkout.  `XEN_OSCAR_ARTIFACTS` names another artifacts folder, to share a store."""

    def __init__(self, top: Path) -> None:
        top = top.resolve()
        self.recipes = top / "recipes"
        self.artifacts = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or top / "artifacts").resolve()
        checkout.require_usable(top, self.artifacts)
        checkout.sign(top, self.artifacts)
        own = checkout.own_folder(top, self.artifacts)
        self.plan: Plan = load_plan(self.recipes, self.artifacts, own)
        self.engine = Engine(self.plan, self.artifacts, self.recipes)
        for text in self.plan.told():
            events.warning(text)

    @property
    def config(self) -> dict[str, Any]:
        """doit's settings: two tasks at once, in threads (each works in a process of its own), nothing on disk."""
        there = "debian12" in self.plan.clusters or "clusters/debian12" in self.plan.broken
        return {
            "default_tasks": ["cluster:debian12"] if there else [],
            "num_process": 2,
            "par_type": "thread",
            "backend": "memory",
            "verbosity": 2,
        }

    def steps(self, kind: str, doc: str, broken: str = "") -> Group:
        """The tasks that make the artifacts of one kind; `broken` is the kind of recipe that they are made of first."""

        def tasks() -> Iterator[Task]:
            for step in self.plan.steps.values():
                if step.kind == kind:
                    yield {
                        "name": step.name,
                        "doc": step.doc,
                        "actions": [(_build, [self, step.task])],
                        "uptodate": [(_up_to_date, [self.engine, step.task])],
                        "task_dep": list(dict.fromkeys(parent.task for parent in step.parents)),
                        "clean": [(self.engine.forget, [step.task])],
                    }
            yield from self._broken(broken)

        return Group(kind, doc, tasks)

    def hosts(self, doc: str) -> Group:
        """VM containers that clusters share: a testbed is started, others are asked whether they can take machines."""

        def tasks() -> Iterator[Task]:
            for name, host in self.plan.hosts.items():
                if kinds.of(host.connection).has_task:
                    testbed = self.plan.testbeds.get(name, ())
                    what = (
                        "an emulated machine that runs Xen; leaves it running"
                        if testbed
                        else f"whether it answers at {host.connection}"
                    )
                    yield {
                        "name": name,
                        "doc": f"the VM container {name}: {what}",
                        "actions": [(_start_host, [self, name])],
                        "uptodate": [(_is_ready, [self, name])],
                        "task_dep": list(testbed),
                    }
            yield from self._broken("hosts")

        return Group("host", doc, tasks)

    def phase(self, phase: Phase, doc: str, after: str = "") -> Group:
        """The tasks that bring the machines of every cluster into one phase: boot, install or start."""

        def tasks() -> Iterator[Task]:
            for name in self.plan.clusters:
                yield {
                    "name": name,
                    "doc": doc.format(f" of {name}"),
                    "actions": [(_reach, [self, name, phase])],
                    "uptodate": [(_has_reached, [self, name, phase])],
                    "task_dep": [naming.phase(after, name)]
                    if after
                    else [*self.plan.made[name].parts().values(), *self._host(name)],
                }

        return Group(phase, doc.format(""), tasks)

    def verdicts(self, doc: str) -> Group:
        """Verification; `setup` starts the machines only when no verdict for these artifacts is in the store."""

        def tasks() -> Iterator[Task]:
            for name in self.plan.clusters:
                record = self.plan.verdict(name)
                yield {
                    "name": name,
                    "doc": doc.format(f" {name}"),
                    "actions": [(_verify, [self, name])],
                    "uptodate": [(_has_verdict, [self, name])],
                    "task_dep": [parent.task for parent in record.parents],
                    "setup": [naming.phase("start", name)],
                    "clean": [(self.engine.forget, [record.task])],
                }

        return Group("verify", doc.format(""), tasks)

    def clusters(self, doc: str) -> Group:
        """Everything: built, running, verified; and frozen, where there is room for that."""

        def tasks() -> Iterator[Task]:
            for name in self.plan.clusters:
                yield {
                    "name": name,
                    "doc": doc.format(f" {name}"),
                    "actions": [(_freeze, [self, name])],
                    "uptodate": [(_is_settled, [self, name])],
                    "task_dep": [naming.phase("start", name), naming.phase("verify", name)],
                }
            yield from self._broken("clusters")

        return Group("cluster", doc.format(""), tasks)

    def stops(self, doc: str) -> Group:
        """End clusters; nothing of them goes on running.  What runs can be ended whatever has become of its recipe."""

        def tasks() -> Iterator[Task]:
            testbeds = [f"{_TESTBED}{name}" for name in self.plan.testbeds]
            for name in dict.fromkeys([*self.known(), *testbeds, *self._marked()]):
                what = (
                    f"testbed {name.removeprefix(_TESTBED)}, and all clusters on it"
                    if name.startswith(_TESTBED)
                    else f"cluster {name}: machines, networks, daemons"
                )
                yield {"name": name, "doc": f"end the {what}", "actions": [(_stop, [self, name])]}

        return Group("stop", doc, tasks)

    def _broken(self, kind: str) -> Iterator[Task]:
        """A task for each recipe of that kind that has mistakes: it can be seen and named, and tells them all."""
        for recipe, mistakes in self.plan.broken.items():
            folder, _, name = recipe.partition("/")
            if folder == kind and _TASK_NAME.fullmatch(name):
                yield {
                    "name": name,
                    "doc": f"cannot be made: {mistakes.partition(_LINE)[0]}",
                    "actions": [(_refuse, [mistakes])],
                    "meta": {"broken": mistakes},
                }

    def _host(self, cluster: str) -> list[str]:
        host = self.plan.hosts[self.plan.clusters[cluster].host]
        return [naming.host(host.name)] if kinds.of(host.connection).has_task else []

    # --- clusters one by one

    @property
    def run(self) -> Path:
        """Where clusters and testbeds that run have their folders."""
        return self.engine.own / "run"

    def booted(self) -> list[str]:
        """The clusters that may be running: they have been booted, and nobody has stopped them since."""
        return [name for name in self._marked() if not name.startswith(_TESTBED)]

    def known(self) -> list[str]:
        """Every cluster that has a recipe, be it a broken one, or may be running without."""
        broken = [recipe.partition("/")[2] for recipe in self.plan.broken if recipe.startswith("clusters/")]
        return sorted({*self.plan.clusters, *filter(_TASK_NAME.fullmatch, broken), *self.booted()})

    def _marked(self) -> list[str]:
        """The run folders of clusters and testbeds that may be running."""
        marks = [*self.run.glob("*/init.pid"), *self.run.glob("*/container")]
        return sorted({mark.parent.name for mark in marks if _TASK_NAME.fullmatch(mark.parent.name)})

    def lifecycle(self, name: str) -> Lifecycle:
        """One cluster as its recipe says."""
        from pipeline.cluster.lifecycle import Lifecycle

        if name not in self.plan.clusters:
            raise self.unknown(name)
        return Lifecycle(self.plan, name, self.engine)

    def host(self, name: str) -> TestbedHost | GivenHost:
        """One VM container that clusters share."""
        from pipeline.cluster import testbed

        return testbed.host_of(self.plan.hosts[name], self.engine)

    def unknown(self, cluster: str) -> UserError:
        """The error for a cluster of which nothing can be made."""
        if f"clusters/{cluster}" in self.plan.broken:
            return ManifestError(self.plan.broken[f"clusters/{cluster}"])
        if cluster in self.booted():
            return NotNow(f"{cluster} has no recipe, by which this would be done", hint=f"doit stop:{cluster} ends it")
        return no_such("cluster", cluster, self.known())

    def running(self, name: str) -> Lifecycle:
        """One cluster as it was booted, if it runs or there is no recipe to read; else as its recipe says."""
        from pipeline.cluster import described
        from pipeline.cluster.lifecycle import Lifecycle

        if name.startswith(_TESTBED):  # which is a host, though it lives like a cluster of one machine
            raise self.unknown(name)
        if name not in {folder.name for folder in self.run.glob("*")}:  # a word that was typed is no path
            return self.lifecycle(name)
        try:
            booted = described.read(self.run / name)
        except UserError:
            if name not in self.plan.clusters:
                raise
            booted = None
        if booted:
            life = Lifecycle(self.plan, name, self.engine, booted)
            if name not in self.plan.clusters or life.machines().runs():
                return life
        return self.lifecycle(name)


def _build(graph: Graph, task: str) -> None:
    try:
        graph.engine.build(task)
    except NoSource as error:
        from pipeline import supplied

        raise supplied.told(error, task, graph.plan, graph.engine.has) from None


def _refuse(mistakes: str) -> None:
    raise ManifestError(mistakes)


def _up_to_date(engine: Engine, task: str, *_: object) -> bool:
    return engine.up_to_date(task)


def _has_reached(graph: Graph, cluster: str, phase: Phase, *_: object) -> bool:
    return graph.lifecycle(cluster).has_reached(phase)


def _has_verdict(graph: Graph, cluster: str, *_: object) -> bool:
    return graph.lifecycle(cluster).has_verdict()


def _reach(graph: Graph, cluster: str, phase: Phase) -> None:
    graph.lifecycle(cluster).reach(phase)


def _stop(graph: Graph, name: str) -> None:
    """End a cluster or a testbed, whatever is known of it."""
    try:
        life = graph.running(name)
    except UserError:
        from pipeline.hosts import namespace

        if not namespace.stop(graph.run / name) and (graph.run / name / "container").exists():
            raise  # it is on a machine that only its recipe names
        return
    life.stop()


def _verify(graph: Graph, cluster: str) -> None:
    from pipeline.cluster.verification import verify

    verify(graph.lifecycle(cluster))


def _is_settled(graph: Graph, cluster: str, *_: object) -> bool:
    from pipeline.cluster import freezable

    return freezable.is_settled(graph.lifecycle(cluster))


def _freeze(graph: Graph, cluster: str) -> None:
    from pipeline.cluster import freezing

    freezing.by_itself(graph.lifecycle(cluster))


def _is_ready(graph: Graph, host: str, *_: object) -> bool:
    return graph.host(host).is_ready()


def _start_host(graph: Graph, host: str) -> None:
    graph.host(host).start()
