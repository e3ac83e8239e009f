"""Build one step: lock, run its builder (`building`), publish.

The engine is what doit's tasks call.  It decides nothing about order (doit does) nor about shape (the plan does).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import checkout, events, sandbox
from pipeline.errors import BuildError, UserError
from pipeline.holding import Holder
from pipeline.keys import Keys
from pipeline.run import run
from pipeline.step import Input, Plan, Step
from pipeline.store import Entry, Store, remove

if TYPE_CHECKING:
    from pipeline.collecting import Collected

_TOP = Path(__file__).resolve().parents[1]

#: Bytes that the artifacts folder may take before what is little used is removed.
STORE_LIMIT = 20 << 30

#: Run folders of clusters that do not run, and how to remove each.
Idle = Iterable[tuple[Path, Callable[[], bool]]]


class Engine:
    """Builds the steps of one plan into one store.  `own` is where the checkout of the recipes keeps its own things."""

    def __init__(self, plan: Plan, artifacts: Path, recipes: Path) -> None:
        self.steps = plan.steps
        self.artifacts = artifacts
        self.recipes = recipes
        self.own = checkout.own_folder(recipes.parent, artifacts)
        self.store = Store(artifacts, links=self.own)
        self.keys = Keys(plan.artifacts, self.store)
        self._memory = sandbox.Memory()
        self._missing: set[str] = set()
        self._asking = threading.Lock()

    def up_to_date(self, task: str) -> bool:
        """Whether the store holds the step's key; says why where it does not."""
        with self._asking:
            entry = self.keys.entry(task)
            if entry is not None:
                self.store.link(task, entry)
                events.outcome(task, "reused", 0.0, entry.size)
                return True
            self._missing.add(task)
            events.reason(task, self.keys.why(self.steps[task]))
            return False

    def has(self, task: str) -> bool:
        """The same, and nothing is said."""
        with self._asking:
            return self.keys.entry(task) is not None

    def entry(self, task: str) -> Entry:
        """The up-to-date entry of a task that has been built."""
        with self._asking:
            entry = self.keys.entry(task)
        if entry is None:
            raise BuildError(f"{task} is not built", hint=f"doit {task}")
        return entry

    def build(self, task: str) -> None:
        """Build a step and publish it, or raise UserError; built twice by force, the results are compared."""
        step = self.steps[task]
        if step.network:
            from pipeline.manifests import mirrors  # as rarely wanted as it is slow to import

            mirrors.take(self.recipes.parent, str(step.params["distro"]))
        started = time.time()
        if started < sandbox.SOURCE_DATE_EPOCH:
            raise UserError(
                f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(started))}",
                hint="set it: with times that lie in the past, artifacts would differ from all others",
            )
        with self._asking:
            ingredients = self.keys.ingredients(step)
            key = self.keys.key(step)
        if ingredients is None or key is None:
            raise BuildError(f"{task}: {self.keys.why(step)}")
        with self.store.building(key, waiting=lambda: events.note(f"{task}: another run builds it; waiting")) as folder:
            before = self.store.get(key)
            if before is not None and task in self._missing:  # the run that we waited for has made it
                self._done(task, before, "reused", started)
                return
            former = self._former(step) if before is None else None  # built again, it is to show that it comes out so
            self._run(step, folder, former)
            self._require_unchanged(step, ingredients)
            passed_on = self._pass_on(step, folder / "files")
            entry = self.store.publish(
                key,
                folder,
                {
                    "task": task,
                    "kind": step.kind,
                    "name": step.name,
                    "ingredients": ingredients,
                    "started": datetime.fromtimestamp(started, UTC).isoformat(),
                    "seconds": round(time.time() - started, 2),
                },
                replace=step.snapshot,
                known=passed_on,
            )
            self._done(task, entry, "built", started)

    def _pass_on(self, step: Step, files: Path) -> dict[str, str]:
        """Link what builders have passed on (`Job.pass_on`), instead of the links that they left: name -> digest."""
        found: dict[str, str] = {}
        links = [path for path in files.iterdir() if path.is_symlink()]
        for entry in map(self.entry, {parent.task for parent in step.parents} if links else ()):
            given = {entry.path / name: str(item["digest"]) for name, item in entry.files.items()}
            for path in links:
                source = Path(os.readlink(path))
                if source in given:
                    path.unlink()
                    os.link(source, path)
                    found[path.name] = given[source]
                    links.remove(path)
        return found

    @contextlib.contextmanager
    def holder(self, tasks: Iterable[str]) -> Iterator[Holder]:
        """A holder of what these tasks have made, for processes that outlive this one and are given its descriptor."""
        holder = Holder(self.store.root)
        holder.hold(self.entry(task).key for task in tasks)
        try:
            yield holder
        finally:
            holder.hand_over()

    def collect(self, limit: int = STORE_LIMIT, idle: Idle = ()) -> Collected:
        """Bound the artifacts folder: what no recipe asks for now and nobody uses goes, least recently used first.

        `idle` are run folders of clusters that do not run, and how to remove each.
        """
        from pipeline import collecting

        for task in self.keys.artifacts:
            self.keys.entry(task)  # which holds what there is
        layers = self.artifacts / "cache" / "layers"  # those that memory has no room for
        return collecting.collect(self.store, limit, [(layers, lambda: self._clear(layers)), *idle])

    def _clear(self, layers: Path) -> bool:
        self.clear_layers()
        return not list(layers.glob("*.lock"))

    def clear_layers(self) -> None:
        """Remove the extracted layers that lie in memory to make builds quick, but those in use."""
        from pipeline.layers import cache

        view = sandbox.View(writes=cache.folders(self.artifacts))
        run(
            [
                *sandbox.namespace(network=False, view=view),
                sys.executable,
                "-m",
                "pipeline.layers.cache",
                self.artifacts,
            ],
            env={"PYTHONPATH": str(_TOP)},
        )

    def forget(self, task: str) -> None:
        """Remove what a task made last, and what it would take of the store now, which another checkout may have made;
        and its link.  What is made from it is left alone."""
        with self._asking:
            current = self.keys.entry(task)
        for key in {entry.key for entry in (self.store.linked(task), current) if entry is not None}:
            if not self.store.remove(key):
                raise UserError(
                    f"{task}: what it made is in use by another run or by a cluster that runs",
                    hint="wait for that run, or end the cluster (doit stop:NAME)",
                )
        self.store.link_path(task).unlink(missing_ok=True)

    def _done(self, task: str, entry: Entry, how: events.Result, started: float) -> None:
        self._missing.discard(task)
        self.keys.built(task)
        self.store.link(task, entry)
        self.keys.save()
        events.outcome(task, how, time.time() - started, entry.size)

    def _require_unchanged(self, step: Step, ingredients: Mapping[str, Any]) -> None:
        """Raise if somebody edited what the builder reads, or the builder, while it ran: the key is not for that."""
        from pipeline import kept

        changed = [name for name, digest in step.files if str(kept.of(self.recipes, name)) != digest]
        now = Keys(self.keys.artifacts, self.store).ingredients(step)
        if now is None or now["source"] != ingredients["source"]:
            changed.append("the builder")
        if changed:
            raise BuildError(f"{step.task}: {', '.join(changed)} changed while it was built", hint="run again")

    def _former(self, step: Step) -> Path | None:
        """What a step that takes over made last, held, or None."""
        if not step.takes_over:
            return None
        with self._asking:
            entry = self.store.linked(step.task)
        return entry.path if entry is not None and self.store.hold(entry.key) else None

    def _run(self, step: Step, folder: Path, former: Path | None) -> None:
        """Run the builder; its output is then in `folder/files`."""
        from pipeline import building  # only where something is built

        inputs = []
        for parent in step.parents:
            entry = self.entry(parent.task)
            inputs.append(Input(parent.role, parent.task, entry.path, entry.digest))
        try:
            with self._memory.share() as memory:
                log = self.own / "logs" / f"{_file_name(step)}.log"
                changed = self.keys.source_changed(step)
                given = building.Build(step, tuple(inputs), former, folder, self.artifacts, self.recipes, log, changed)
                building.run(given, memory)
        except UserError:
            self._keep(step, folder)
            raise
        remove(folder / "work")

    def _keep(self, step: Step, folder: Path) -> None:
        """Keep what a failed build had made, for a look; the next failure of the same task replaces it.

        Its scratch space is gone where that was in memory; the log tells what it did.
        """
        kept = self.own / "failed" / _file_name(step)
        kept.parent.mkdir(parents=True, exist_ok=True)
        remove(kept)
        folder.rename(kept)


def _file_name(step: Step) -> str:
    return step.task.replace(":", "-").replace("/", "-")
