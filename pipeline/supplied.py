"""Which clusters can be built where packages cannot be had: those for which all has been fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.packages import given
from pipeline.packages.given import NoSource
from pipeline.step import Plan, Step


def told(error: NoSource, failed: str, plan: Plan, has: Callable[[str], bool]) -> NoSource:
    """The error of the task `failed`, with the clusters that can be built all the same; `has` says whether the store
    has what a task makes."""
    ready, perhaps = [], []
    for cluster, made in plan.made.items():
        missing = [step for step in _downloads(plan, made.parts().values()) if not has(step.task)]
        if not missing:
            ready.append(cluster)
        elif all(step.task != failed and given.places_of(str(step.params["distro"])) for step in missing):
            perhaps.append(cluster)
    words = [f"clusters whose packages are all here: {', '.join(ready) or 'none'}"]
    if perhaps:
        words.append(f"those whose packages may come from where you have said: {', '.join(perhaps)}")
    return NoSource(error.message, hint="; ".join([error.hint, *words]), log=error.log, tail=error.tail)


def _downloads(plan: Plan, tasks: Iterable[str]) -> Iterator[Step]:
    """The steps that fetch, among those that these tasks need."""
    pending, seen = list(tasks), set[str]()
    while pending:
        task = pending.pop()
        if task in seen or task not in plan.steps:
            continue
        seen.add(task)
        step = plan.steps[task]
        pending += [parent.task for parent in step.parents]
        if step.network:
            yield step
