"""`doit cluster:debian12` when there is nothing to do: what every run pays before it does anything.

Only looks: it refuses to start where the cluster does not run or something would have to be built.
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.measure import (
    DOIT,
    TOP,
    Row,
    bare_doit,
    machine,
    median,
    processor_used,
    report,
    say,
    spread,
    start,
    timed,
)
from pipeline.errors import UserError
from pipeline.tasks import Graph

_CLUSTER, _RUNS, _GOAL = "debian12", 7, 0.1
#: Imports that are worth a line, in milliseconds.
_NOTICEABLE = 3


def main() -> None:
    life = Graph(TOP).lifecycle(_CLUSTER)
    if not life.has_reached("start") or life.verdict() is None:
        raise UserError(
            f"{_CLUSTER} is not running, verified and up to date, so there would be something to do",
            hint=f"doit cluster:{_CLUSTER}",
        )
    before = machine()
    command: list[str | Path] = [DOIT, f"cluster:{_CLUSTER}"]
    timed(command)  # fills page cache and .pyc files
    walls, cpus, bare = [], [], []
    for _ in range(_RUNS):
        used = processor_used()
        wall, done = timed(command)
        walls.append(wall)
        cpus.append(processor_used() - used)
        if "nothing to do" not in done.stdout:
            raise UserError("something was done after all", tail=done.stdout)
        bare.append(bare_doit())
    used = median(cpus)
    rows = [
        Row(f"doit cluster:{_CLUSTER}, nothing to do", median(walls), detail=spread(walls)),
        Row("  processor time of it", used, goal=_GOAL, detail=f"{spread(cpus)}; on an idle machine that is the time"),
        Row("processor time of a Python that imports doit and no more", median(bare), detail=spread(bare)),
        Row("ratio of nothing to do to a bare doit", used / median(bare), "x"),
    ]
    notes = _imports() if used > _GOAL else []
    report("noop", "No-op", rows, before, notes)


def _imports() -> list[str]:
    """Where the time of importing goes: own milliseconds, of the slowest modules."""
    say("over the goal: looking at imports")
    argv = [sys.executable, "-X", "importtime", "-m", "doit", f"cluster:{_CLUSTER}"]
    found = []
    for line in timed(argv)[1].stderr.splitlines():
        own, _, rest = line.removeprefix("import time:").partition("|")
        if own.strip().isdigit():
            found.append((int(own) / 1000, rest.partition("|")[2].strip()))
    total = sum(milliseconds for milliseconds, _ in found)
    return [
        f"imports: {total:.0f} ms of own time in {len(found)} modules (traced); the slowest:",
        *(
            f"  {milliseconds:6.1f} ms  {name}"
            for milliseconds, name in sorted(found, reverse=True)[:12]
            if milliseconds >= _NOTICEABLE
        ),
    ]


if __name__ == "__main__":
    start(main)
