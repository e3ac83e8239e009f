"""`doit cluster:debian12` when there is nothing to do: what every run pays before it does anything.

Only looks: it refuses to start where the cluster does not run or something would have to be built.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.measure import DOIT, TOP, Row, machine, median, report, say, spread, start, timed
from pipeline.errors import UserError
from pipeline.tasks import Graph

_CLUSTER, _RUNS, _GOAL = "debian12", 7, 0.3
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
        used = _cpu()
        wall, done = timed(command)
        walls.append(wall)
        cpus.append(_cpu() - used)
        if "nothing to do" not in done.stdout:
            raise UserError("something was done after all", tail=done.stdout)
        bare.append(timed([sys.executable, "-c", "import doit.doit_cmd"])[0])
    wall = median(walls)
    rows = [
        Row(f"doit cluster:{_CLUSTER}, nothing to do", wall, goal=_GOAL, detail=spread(walls)),
        Row("  processor time of it", median(cpus), detail="what a machine without load would need"),
        Row("python with doit imported and no more", median(bare), detail=spread(bare)),
        Row("ratio", wall / median(bare), "x"),
    ]
    notes = _imports() if wall > _GOAL else []
    report("noop", "No-op", rows, before, notes)


def _cpu() -> float:
    """Processor time of all children that have ended."""
    times = os.times()
    return times.children_user + times.children_system


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
