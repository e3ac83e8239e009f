"""From warm artifacts to a verified cluster of a head node and two compute nodes, phase by phase.

`--xen` measures the same on nested Xen.  `--first-run` measures instead what somebody sees who has just cloned the
project: a clean clone of what is committed, nothing cached, `./bootstrap doit cluster:debian12`.  System packages that
are installed already stay so.
"""

from __future__ import annotations

import argparse
import os
import re

from benchmarks.checkout import CLUSTER, MACHINES, copy, folder, forget_layers
from benchmarks.measure import KEEP, TOP, Row, fixed_work, machine, report, say, start, timed
from pipeline.cluster import records
from pipeline.run import run

_GOAL, _XEN_GOAL, _FIRST_GOAL = 120.0, 360.0, 480.0
#: What makes of it a cluster on the testbed, as debian12-xen is.
_ON_XEN = 'host = "debian12"\n[xen.machines.node1]\nboot = "kernel"\n'
#: Phases shorter than this are not worth a line, in seconds.
_NOTICEABLE = 0.5


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--first-run", action="store_true", help="from a clean clone instead of warm artifacts")
    options.add_argument("--xen", action="store_true", help="on Xen, in the testbed, whose start is counted")
    options.add_argument(KEEP, action="store_true", help="keep the ratios as those of the last good run")
    given = options.parse_args()
    if given.first_run:
        _first_run()
    else:
        _warm(given.xen)


def _warm(xen: bool) -> None:
    before = machine()
    with copy(_ON_XEN if xen else "") as made:
        say("making all artifacts")
        made.doit(*MACHINES, *((f"xenconfig:{CLUSTER}/*", "dom0:debian12", "kernel:debian12") if xen else ()))
        say("booting, installing, verifying")
        made.doit(f"stop:{CLUSTER}")
        done = made.doit("--fresh", f"verify:{CLUSTER}")  # `cluster:` freezes it after that
        phases = records.read(made.artifacts / "run" / CLUSTER / "timeline.jsonl")
    first = min(phase.start for phase in phases)
    goal = _XEN_GOAL if xen else _GOAL
    work = fixed_work()
    rows = [
        Row(f"doit verify:{CLUSTER} --fresh, artifacts ready", done.seconds, goal=goal, detail=done.detail()),
        Row("ratio to a fixed piece of work", done.seconds / work, "x", detail=f"which took {work:.2f} s"),
    ]
    rows += [
        Row(
            f"  {phase.machine or 'host'}: {phase.name}",
            phase.end - phase.start,
            detail=f"from {phase.start - first:.1f} to {phase.end - first:.1f}",
        )
        for phase in sorted(phases, key=lambda item: item.start)
        if phase.end - phase.start >= _NOTICEABLE
    ]
    where = " on nested Xen" if xen else ""
    report(
        "cluster-xen" if xen else "cluster",
        f"Warm artifacts to a verified cluster{where}: head node and two compute nodes",
        rows,
        before,
    )


def _first_run() -> None:
    before = machine()
    changed = timed(["git", "status", "--porcelain"])[1].stdout.splitlines()
    env = {name: value for name, value in os.environ.items() if name not in ("XEN_OSCAR_ARTIFACTS", "VIRTUAL_ENV")}
    with folder() as work:
        clone = work / "xen-oscar"
        cloning = timed(["git", "clone", "--quiet", TOP, clone])[0]
        forget_layers()
        env |= {"XEN_OSCAR_ARTIFACTS": "", "PIP_NO_CACHE_DIR": "1"}
        say("./bootstrap doit cluster:debian12 in a clean clone")
        try:
            whole, done = timed(["./bootstrap", "doit", "cluster:debian12"], env=env, cwd=clone)
        finally:
            if (clone / "artifacts" / "run" / "debian12" / "init.pid").exists():
                run(["./bootstrap", "doit", "stop:debian12"], env=env, cwd=clone, check=False, timeout=120)
    rows = [
        Row(
            "./bootstrap doit cluster:debian12, clean clone",
            whole,
            goal=_FIRST_GOAL,
            detail=f"after {cloning:.1f} s of cloning",
        )
    ]
    rows += [
        Row(f"  {match[1]}", 60 * float(match[2] or 0) + float(match[3]))
        for match in re.finditer(r"^(\S+:\S+)\s+(?:built|done)\s+(?:(\d+) min )?([\d.]+) s", done.stdout, re.MULTILINE)
    ]
    notes = [f"{len(changed)} files differ from what is committed, and were not measured"] if changed else []
    report("first-run", "The first run ever", rows, before, notes, output=done.stdout.splitlines())


if __name__ == "__main__":
    start(main)
