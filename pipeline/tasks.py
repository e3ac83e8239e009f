"""Steps -> doit tasks, and the last tasks, which run machines.

A step's task has no file dependencies: whether it is up to date is asked of the store (`Engine.up_to_date`), and
doit only keeps the order.  Tasks that run machines ask libvirt (`boot`, `install`, `start`) or the store (`verify`:
a verdict is an artifact as well).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import plan as planning
from pipeline.engine import Engine
from pipeline.plan import Plan

Task = dict[str, Any]


class Graph:
    """The task graph of one checkout.  `XEN_OSCAR_ARTIFACTS` names another artifacts folder, to share a store."""

    def __init__(self, top: Path) -> None:
        self.recipes = top / "recipes"
        self.artifacts = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or top / "artifacts").resolve()
        self.plan: Plan = planning.load(self.recipes, self.artifacts / "cache" / "plan.pickle")
        self.engine = Engine(self.plan.steps, self.artifacts, self.recipes)

    @property
    def config(self) -> dict[str, Any]:
        """doit's settings: two tasks at once, in threads (each works in a process of its own), nothing on disk."""
        return {"default_tasks": ["cluster:debian12"] if "debian12" in self.plan.clusters else [],
                "num_process": 2, "par_type": "thread", "backend": "memory", "verbosity": 2}

    def steps(self, kind: str) -> Iterator[Task]:
        """The tasks that make the artifacts of one kind."""
        for step in self.plan.steps.values():
            if step.kind == kind:
                yield {
                    "name": step.name,
                    "doc": step.doc,
                    "actions": [(self.engine.build, [step.task])],
                    "uptodate": [(_up_to_date, [self.engine, step.task])],
                    "task_dep": list(dict.fromkeys(parent.task for parent in step.parents)),
                    "clean": [(self.engine.forget, [step.task])],
                }

    def machines(self, phase: str, doc: str, after: str = "") -> Iterator[Task]:
        """The tasks that bring the machines of every cluster into one phase: boot, install or start."""
        for name in self.plan.clusters:
            run = self._run(name)
            yield {
                "name": name,
                "doc": doc.format(name),
                "actions": [(_call, [run, phase])],
                "uptodate": [(_has_reached, [run, phase])],
                "task_dep": [f"{after}:{name}"] if after else list(self.plan.artifacts_of(name).values()),
            }

    def verdicts(self) -> Iterator[Task]:
        """Verification; `setup` starts the machines only when no verdict for these artifacts is in the store."""
        for name in self.plan.clusters:
            run = self._run(name)
            yield {
                "name": name,
                "doc": f"check every promise on the running cluster {name}; the verdict is kept",
                "actions": [(_call, [run, "verify"])],
                "uptodate": [(_has_reached, [run, "verify"])],
                "task_dep": list(self.plan.artifacts_of(name).values()),
                "setup": [f"start:{name}"],
                "clean": [(_call, [run, "forget_verdict"])],
            }

    def clusters(self) -> Iterator[Task]:
        """Everything: built, running, verified."""
        for name in self.plan.clusters:
            yield {
                "name": name,
                "doc": f"build, boot, install and verify the cluster {name}; leaves it running",
                "actions": None,
                "task_dep": [f"start:{name}", f"verify:{name}"],
            }

    def stops(self) -> Iterator[Task]:
        """End clusters; nothing of them goes on running."""
        for name in self.plan.clusters:
            yield {
                "name": name,
                "doc": f"end the cluster {name}: machines, networks, daemons",
                "actions": [(_call, [self._run(name), "stop"])],
            }

    def _run(self, name: str) -> ClusterRun:
        return ClusterRun(self, name)


class ClusterRun:
    """One cluster's running side; imports libvirt and what stands on it only when it is asked something."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph = graph
        self.name = name

    def open(self) -> Any:
        """The cluster's lifecycle."""
        from pipeline.cluster.lifecycle import Lifecycle

        return Lifecycle(self.graph.plan.clusters[self.name], self.graph.plan.artifacts_of(self.name),
                         self.graph.engine)


def _up_to_date(engine: Engine, task: str, *_: object) -> bool:
    return engine.up_to_date(task)


def _has_reached(run: ClusterRun, phase: str, *_: object) -> bool:
    return bool(run.open().has_reached(phase))


def _call(run: ClusterRun, what: str) -> None:
    getattr(run.open(), what)()
