"""Verify a running cluster, tell the result in every form, and keep a passing verdict as an artifact."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipeline import events, inventory, listing
from pipeline.builders import image
from pipeline.checks import verify as checks
from pipeline.checks.result import Result, Verdict
from pipeline.checks.verify import Added, Expected
from pipeline.cluster import records
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.opkgphase import configured
from pipeline.errors import ClusterError
from pipeline.guests import flavours
from pipeline.packages import lock
from pipeline.packages.families import FAMILIES
from pipeline.report import terminal
from pipeline.report.model import Artifact, Phase, Task, Timeline
from pipeline.report.write import write
from pipeline.step import Record
from pipeline.store import Store
from pipeline.virt import pace


def verify(life: Lifecycle) -> None:
    """Check the running cluster; raise ClusterError unless it passes.  The report is written whatever comes out."""
    engine, cluster = life.engine, life.cluster
    record = life.plan.verdict(cluster.name)
    started = time.time()

    def show(result: Result) -> None:
        events.phase(record.task, result.machine, result.name, result.outcome)

    shell = life.shell()
    with shell.connected():
        capacity = life.capacity()
        expected = Expected(
            {membership: _packages(life, membership) for membership in life.made.stacks},
            _files(life),
            flavours.of(cluster.guest),
            FAMILIES[life.made.family],
            configured(life.run_dir),
            {
                machine.name: Added(
                    life.added.packages(machine.name, machine.membership), life.added.changed(machine.name)
                )
                for machine in cluster.machines
            },
        )
        verdict = checks.verify(
            dataclasses.replace(cluster, opkgs=(*cluster.opkgs, *life.added.there())),
            shell,
            expected,
            show,
            lanes=pace.at_once("verify", capacity),
            patience=pace.patience(len(cluster.nodes), "verify", capacity),
        )
    life.runner.record(
        Phase(
            cluster.head.name,
            "verify",
            started,
            time.time(),
            f"{verdict.count('passed')} of {len(verdict.results)} checks passed",
        )
    )
    consoles = {machine.name: life.run_dir / "console" / f"{machine.name}.log" for machine in cluster.machines}
    page = write(life.report_dir, verdict, cluster, _timeline(life), consoles, _artifacts(life))
    told = io.StringIO()
    terminal.show(verdict, told)
    events.note(told.getvalue().rstrip())
    key = engine.keys.key(record)
    assert key is not None  # the cluster runs, so all that it is made of is built
    differs = life.added.told(machine.name for machine in cluster.machines)
    if not differs:
        # an earlier one on the same artifacts: worth nothing if this one is bad, and it tells of other times if not
        engine.store.remove(key)
    if not verdict.passed:
        raise ClusterError(
            f"{cluster.name}: {len(verdict.bad)} of {len(verdict.results)} checks did not pass",
            tail="\n".join(f"{item.machine}: {item.name}: {item.message}" for item in verdict.bad[:12]),
            hint=f"the cluster is left running: doit ssh {cluster.name}",
            log=page,
        )
    if differs:
        events.note(f"{cluster.name}: {differs}: the verdict is on that, and not kept as one on its recipe")
    else:
        life.runner.notes.add(f"verified-by/{records.THIS_RUN}")
        _keep(engine.store, key, record, verdict, engine.keys.ingredients(record))


def _keep(store: Store, key: str, record: Record, verdict: Verdict, ingredients: Mapping[str, Any] | None) -> None:
    """Publish the verdict under the key of what it was given for."""
    with store.building(key) as folder:
        (folder / "files").mkdir()
        (folder / "files" / "verdict.json").write_text(json.dumps(verdict.to_json(), indent=1))
        entry = store.publish(
            key,
            folder,
            {
                "task": record.task,
                "kind": record.kind,
                "name": record.name,
                "ingredients": ingredients,
                "seconds": verdict.seconds,
            },
        )
    store.link(record.task, entry)


def _packages(life: Lifecycle, membership: str) -> Mapping[str, str]:
    """What machines of a membership were made to have: package -> version."""
    stack = life.made.stacks[membership]
    locks = (lock.read(life.engine.entry(task).path / lock.NAME) for task in stack.locks)
    found = lock.versions(itertools.chain.from_iterable(locks))
    if stack.under_test:
        found.update(lock.read_versions(life.engine.entry(stack.under_test).path / lock.VERSIONS))
    return found


def _files(life: Lifecycle) -> Mapping[str, inventory.Tree]:
    """What the head node's disk and the SIS images were noted to hold when they were built, by membership."""
    images = life.engine.entry(life.made.image).path
    files = {membership: images / image.listed(membership) for membership in life.cluster.members}
    files["head"] = life.engine.entry(life.made.disks[life.cluster.head.name]).path / inventory.LIST
    return {each: listing.stacked([listing.load(file.read_text())]) for each, file in files.items()}


def _timeline(life: Lifecycle) -> Timeline:
    """What the machines did when, and how long the artifacts took to build, whenever that was."""
    tasks = []
    for task in life.plan.below(life.made.parts().values()):
        entry = life.engine.entry(task)
        started = datetime.fromisoformat(entry.manifest["started"]).timestamp()
        tasks.append(Task(task, "built", "", float(entry.manifest["seconds"]), started, entry.size))
    return Timeline(tuple(life.runner.timeline()), tuple(tasks))


def _artifacts(life: Lifecycle) -> tuple[Artifact, ...]:
    found = []
    for task in life.made.parts().values():
        entry = life.engine.entry(task)
        found.append(Artifact(task, entry.digest, entry.size))
    return tuple(found)
