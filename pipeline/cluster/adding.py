"""OPKGs come to a cluster that runs, through their phases and without a new installation.

One OPKG after the other, as OSCAR's PackageInUn.pm does it, and each in the order in which a clean cluster gets it: its
packages on every machine, what prepares the head node, its files and scripts on the head node and then on the nodes,
what a boot would start by now, and what the head node does when it and then all nodes are up.  Whatever breaks off is
done once more by the next call.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.checks.opkgs import run_tests
from pipeline.cluster import changing, onmachine
from pipeline.cluster.added import Added
from pipeline.cluster.course import Phase, few
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.onmachine import Told
from pipeline.cluster.opkgphase import OpkgPhases
from pipeline.engine import Engine
from pipeline.errors import ClusterError, NotNow
from pipeline.manifests.recipes import Recipes
from pipeline.opkgs import payload
from pipeline.opkgs.model import Opkg
from pipeline.opkgs.phases import When, side_of, that_run
from pipeline.packages import lock
from pipeline.plan import added as planned

_PHASES: tuple[Phase, ...] = ("boot", "install", "start")


@dataclass(frozen=True)
class Brought:
    """What an OPKG needs of packages: their versions by membership and name, and the folders with their files."""

    packages: Mapping[str, Mapping[str, str]]
    folders: Mapping[str, Path]


def install(life: Lifecycle, recipes: Recipes, names: Sequence[str]) -> Iterator[Told]:
    """Have these OPKGs, and those that they require, on all machines; what was done where, as it happens."""
    cluster = life.cluster
    recipes.joined(cluster.name, [*life.added.there(), *names])  # all of which has to go together
    order = [name for name in recipes.joined(cluster.name, names) if name not in cluster.opkgs]
    for name in names:
        if name in cluster.opkgs:
            yield "", f"OPKG {name} is in the recipe: every machine has it"
    if not order:
        return
    with life.runner.alone():
        _require_up(life)
        for name in names:
            for chain in recipes.chains(name, cluster.opkgs).values():
                if chain[-1] in order and chain[-1] not in names:
                    yield "", f"OPKG {chain[-1]} comes along: {' -> '.join(chain)}"
        for name in order:
            yield from _add(life, recipes, recipes.opkg(name))
        yield from (("", text) for text in differences(cluster.name, [recipes.opkg(name) for name in order]))
        _require_passed(life, order)


def differences(cluster: str, opkgs: Sequence[Opkg]) -> Iterator[str]:
    """How a cluster to which these OPKGs came differs from one that was made with them."""
    listed = ", ".join(f'"{opkg.name}"' for opkg in opkgs)
    yield (
        f"nodes that are installed from now on do not have it, and the next boot of {cluster} from its recipe has "
        f"none of it: for a clean installation add {listed} to opkgs in recipes/clusters/{cluster}.toml"
    )
    for opkg in opkgs:
        for phase in that_run("imaged", "server"):
            if opkg.script(phase.name):
                yield f"{phase.name} of OPKG {opkg.name} was left out: while a cluster runs, its image is only read"
    yield "services that ran before were not started again: what is new in their settings counts from their next start"


def _require_up(life: Lifecycle) -> None:
    """Raise NotNow unless every machine is up, and made of what the recipe says."""
    name = life.cluster.name
    reason = "" if life.runner.is_built() else "not all that it is made of is built"
    for phase in _PHASES:
        reason = reason or life.runner.survey.course(phase).reason
    if reason:
        raise NotNow(f"{name} is not up as its recipe has it: {reason}", hint=f"doit cluster:{name}")


def _add(life: Lifecycle, recipes: Recipes, opkg: Opkg) -> Iterator[Told]:
    """One OPKG, whole."""
    cluster, name, on = life.cluster, opkg.name, onmachine.of(life)
    head, nodes, machines = [cluster.head], cluster.nodes, cluster.machines
    brought = _brought(life, recipes, opkg)
    before = life.added.all().get(name)
    begun = Added(
        name,
        "begun",
        {other: chain for other, chain in recipes.chains(name, cluster.opkgs).items() if other not in cluster.opkgs},
        brought.packages,
        {side: tuple(payload.paths(opkg, side)) for side in ("server", "client")},
        tuple(payload.scripts(opkg)),
        before.machines if before else (),
    )
    secrets = life.identity().secrets(opkg.secrets)
    data = {
        membership: payload.archive(opkg, side_of(membership), folder, secrets)
        for membership, folder in brought.folders.items()
    }
    with on.connected():
        on.call(machines, name, "begin", "a list of all files")
        life.added.put(begun)
        on.send(machines, name, data)
        on.call(machines, name, "packages", "installing packages")
        for membership, packages in brought.packages.items():
            where = cluster.head.name if membership == "head" else f"{membership} nodes"
            listed = few([f"{package} {version}" for package, version in packages.items()])
            yield where, f"OPKG {name}: {f'packages {listed}' if listed else 'no packages'}"
        on.call(head, name, "bring_home", "its folder")
        yield from on.phases(head, name, _scripts(opkg, "prepared", "head"))
        on.call(head, name, "furnish", "its files")
        yield from on.phases(head, name, _scripts(opkg, "furnished", "head"))
        on.call(nodes, name, "furnish", "its files")
        yield from on.phases(nodes, name, _scripts(opkg, "furnished", "compute"))
        yield from on.start(head, name)
    phases = OpkgPhases(dataclasses.replace(cluster, opkgs=(name,)), begun.files(), life.run_dir, life.runner.record)
    phases.run("head up", life.shell(), patience=life.patience())
    yield from ((cluster.head.name, f"OPKG {name}: {phase}") for phase in _scripts(opkg, "head up", "head"))
    changing.tell_nodes(life.shell(), life.runner.notes, patience=life.patience())
    with on.connected():
        yield from on.start(nodes, name)
    phases.run("all up", life.shell(), patience=life.patience())
    yield from ((cluster.head.name, f"OPKG {name}: {phase}") for phase in _scripts(opkg, "all up", "head"))
    with on.connected():
        onmachine.note_changes(life, on)
    life.added.put(dataclasses.replace(begun, state="whole", machines=tuple(machine.name for machine in machines)))


def _scripts(opkg: Opkg, when: When, membership: str) -> list[str]:
    return [phase.name for phase in that_run(when, side_of(membership)) if opkg.script(phase.name)]


def _brought(life: Lifecycle, recipes: Recipes, opkg: Opkg) -> Brought:
    """Find out which packages it needs, and have their files."""
    steps = planned.steps(recipes, life.cluster, life.made, opkg.name)
    every = {step.task: step for pair in steps.values() for step in pair}
    plan = dataclasses.replace(life.plan, steps={**life.plan.steps, **every})
    engine = Engine(plan, life.engine.artifacts, life.engine.recipes)
    for task in plan.below(every):
        if not engine.up_to_date(task):
            engine.build(task)
    return Brought(
        {
            membership: {one.name: one.evr for one in lock.read(engine.entry(locked.task).path / lock.NAME)}
            for membership, (locked, _) in steps.items()
        },
        {membership: engine.entry(fetched.task).path / "packages" for membership, (_, fetched) in steps.items()},
    )


def _require_passed(life: Lifecycle, names: Sequence[str]) -> None:
    """Run the OPKGs' own tests; raises ClusterError where one does not pass."""
    shell, head = life.shell(), life.cluster.head.name
    with shell.connected():
        results = [one for name in names for one in run_tests(name, head, shell, patience=life.patience())]
    bad = [one for one in results if one.outcome != "passed"]
    if bad:
        kept = onmachine.log(
            life.run_dir, "tests", "\n".join(f"{one.name}: {one.message}\n{one.output}" for one in bad)
        )
        raise ClusterError(
            f"{head}: {len(bad)} of {len(results)} tests of {', '.join(names)} did not pass",
            tail="\n".join(f"{one.name}: {one.message}" for one in bad),
            hint=f"it is installed all the same: doit opkg remove {life.cluster.name} {' '.join(reversed(names))}",
            log=kept,
        )
