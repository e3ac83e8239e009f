"""OPKGs come to a cluster that runs, through their phases and without a new installation.

They come in the order in which a clean cluster gets them: packages on every machine, what prepares the head node, files
and scripts on the head node and then on the nodes, what a boot would start by now, and what the head node does when it
and then all nodes are up.  Whatever breaks off is done once more by the next call.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.builders.image import OVERRIDES
from pipeline.checks.opkgs import run_tests
from pipeline.cluster import changing, onmachine
from pipeline.cluster.added import Added
from pipeline.cluster.course import Phase, few
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.onmachine import OnMachines, Told
from pipeline.cluster.opkglog import log
from pipeline.cluster.opkgphase import OpkgPhases
from pipeline.engine import Engine
from pipeline.errors import ClusterError, NotNow
from pipeline.guests import flavours
from pipeline.guests.guest import Init
from pipeline.manifests.recipes import Recipes
from pipeline.opkgs import payload
from pipeline.opkgs.model import Opkg
from pipeline.opkgs.phases import When, side_of, that_run
from pipeline.packages import lock
from pipeline.packages.lock import LockedPackage
from pipeline.plan import added as planned
from pipeline.shell import ClusterShell

#: By membership: name -> version.
Packages = Mapping[str, Mapping[str, str]]

_PHASES: tuple[Phase, ...] = ("boot", "install", "start")


@dataclass(frozen=True)
class Brought:
    """What an OPKG needs of packages: their versions by membership and name, and the folders with their files."""

    packages: Packages
    folders: Mapping[str, Path]


def install(life: Lifecycle, recipes: Recipes, names: Sequence[str]) -> Iterator[Told]:
    """Have these OPKGs, and those that they require, on all machines; what was done where, as it happens."""
    cluster = life.cluster
    there = [name for name in life.added.there() if name in recipes.names("opkgs")]
    recipes.joined(cluster.name, [*there, *names])  # all of which has to go together
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
        yield from _add(life, recipes, [recipes.opkg(name) for name in order])
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


def _add(life: Lifecycle, recipes: Recipes, opkgs: Sequence[Opkg]) -> Iterator[Told]:
    """All of them, whole."""
    cluster, on = life.cluster, onmachine.of(life)
    brought = {opkg.name: _brought(life, recipes, opkg) for opkg in opkgs}
    init = flavours.of(cluster.guest).init
    data = _data(life, opkgs, brought, init)
    before = life.added.all()
    begun = [
        Added(
            opkg.name,
            "begun",
            {
                name: chain
                for name, chain in recipes.chains(opkg.name, cluster.opkgs).items()
                if name not in cluster.opkgs
            },
            packages_that_came(before[opkg.name].packages if opkg.name in before else {}, brought[opkg.name].packages),
            tuple(payload.scripts(opkg)),
            before[opkg.name].machines if opkg.name in before else (),
        )
        for opkg in opkgs
    ]
    for one in begun:
        life.added.put(one)
    with onmachine.noting_changes(life, on):
        yield from _all_phases(life, on, opkgs, begun, brought, data)
    for one in begun:
        life.added.put(
            dataclasses.replace(one, state="whole", machines=tuple(machine.name for machine in cluster.machines))
        )


def _all_phases(
    life: Lifecycle,
    on: OnMachines,
    opkgs: Sequence[Opkg],
    begun: Sequence[Added],
    brought: Mapping[str, Brought],
    data: Mapping[str, bytes],
) -> Iterator[Told]:
    """All that is done on machines."""
    head, nodes = [life.cluster.head], life.cluster.nodes
    with on.connected():
        on.install(life.cluster.machines, [opkg.name for opkg in opkgs], data)
        yield from _listed(life.cluster.head.name, brought)
        for opkg in opkgs:
            on.call(head, opkg.name, "bring_home", f"folder of OPKG {opkg.name}")
        for phase, opkg in itertools.product(that_run("prepared", "server"), opkgs):
            if opkg.script(phase.name):
                yield from on.phase(head, opkg.name, phase.name)
        for where, membership in ((head, "head"), (nodes, "compute")):
            for opkg in opkgs:
                yield from on.take_away(where, opkg.name, "furnish", f"files of OPKG {opkg.name}")
                for phase in that_run("furnished", side_of(membership)):
                    if opkg.script(phase.name):
                        yield from on.phase(where, opkg.name, phase.name)
        yield from on.start(head)
    yield from head_phases(life, begun, "head up")
    if any(phase.name in one.scripts for phase in that_run("head up", "server") for one in begun):
        changing.tell_nodes(life.shell(), life.runner.notes, patience=life.patience())
    with on.connected():
        yield from on.start(nodes)
    yield from head_phases(life, begun, "all up")


def packages_that_came(had: Packages, brought: Packages) -> dict[str, dict[str, str]]:
    """Packages that an OPKG needs by now, and those that came when its recipe was another: these stay until it goes."""
    return {membership: {**had.get(membership, {}), **brought.get(membership, {})} for membership in {**had, **brought}}


def _data(life: Lifecycle, opkgs: Sequence[Opkg], brought: Mapping[str, Brought], init: Init) -> dict[str, bytes]:
    """What machines are sent, by membership."""
    secrets = life.identity().secrets([secret for opkg in opkgs for secret in opkg.secrets])
    return {
        membership: payload.archive(
            opkgs,
            side_of(membership),
            init,
            [file for one in brought.values() for file in sorted(one.folders[membership].glob("*"))],
            secrets,
        )
        for membership in life.made.stacks
    }


def _listed(head: str, brought: Mapping[str, Brought]) -> Iterator[Told]:
    """The packages that came."""
    for name, one in brought.items():
        for membership, packages in one.packages.items():
            listed = few([f"{package} {version}" for package, version in packages.items()])
            yield (
                head if membership == "head" else f"{membership} nodes",
                (f"OPKG {name}: {f'packages {listed}' if listed else 'no packages'}"),
            )


def head_phases(
    life: Lifecycle, begun: Sequence[Added], when: When, shell: ClusterShell | None = None
) -> Generator[Told, None, bool]:
    """The phases that have their place on the head node when it, or all, are up; by a shell that there is, or by one of
    its own.  In the end: whether they have changed what is put over the image of the nodes."""
    cluster = dataclasses.replace(life.cluster, opkgs=tuple(one.name for one in begun))
    files = {path for one in begun for path in one.files()}
    phases = OpkgPhases(cluster, files, life.run_dir, life.runner.record)
    changed = phases.run(when, shell or life.shell(), patience=life.patience())
    for phase, one in itertools.product(that_run(when, "server"), begun):
        if phase.name in one.scripts:
            yield cluster.head.name, f"OPKG {one.name}: {phase.name}"
    return any(path.startswith(f"{OVERRIDES}/") for path in changed)


def _brought(life: Lifecycle, recipes: Recipes, opkg: Opkg) -> Brought:
    """Find out which packages it needs, and have their files."""
    steps = planned.steps(recipes, life.cluster, life.made, opkg.name)
    every = {step.task: step for pair in steps.values() for step in pair}
    plan = dataclasses.replace(life.plan, steps={**life.plan.steps, **every})
    engine = Engine(plan, life.engine.artifacts, life.engine.recipes)
    for task in plan.below(every):
        if not engine.up_to_date(task):
            engine.build(task)
    packages = {}
    for membership, (locked, _) in steps.items():
        come = lock.read(engine.entry(locked.task).path / lock.NAME)
        stack = [engine.entry(task).path / lock.NAME for task in life.made.stacks[membership].locks]
        require_one_architecture(life.cluster.name, opkg.name, come, [one for file in stack for one in lock.read(file)])
        packages[membership] = lock.versions(come)
    return Brought(
        packages,
        {membership: engine.entry(fetched.task).path / "packages" for membership, (_, fetched) in steps.items()},
    )


def require_one_architecture(
    cluster: str, opkg: str, come: Sequence[LockedPackage], have: Sequence[LockedPackage]
) -> None:
    """Raise NotNow where a package would be there for several architectures: it is by its name that it goes again."""
    counts = Counter(one.name for one in (*come, *have))
    if twins := [f"{one.name}.{one.architecture}" for one in come if counts[one.name] > 1]:
        raise NotNow(
            f"OPKG {opkg} needs {', '.join(twins)} besides the same package for another architecture: that comes only "
            "with a clean installation",
            hint=f'add "{opkg}" to opkgs in recipes/clusters/{cluster}.toml; doit cluster:{cluster} makes the machines '
            "anew with it",
        )


def _require_passed(life: Lifecycle, names: Sequence[str]) -> None:
    """Run the OPKGs' own tests; raises ClusterError where one does not pass."""
    shell, head = life.shell(), life.cluster.head.name
    with shell.connected():
        results = [one for name in names for one in run_tests(name, head, shell, patience=life.patience())]
    bad = [one for one in results if one.outcome != "passed"]
    if bad:
        kept = log(life.run_dir, "tests", "\n".join(f"{one.name}: {one.message}\n{one.output}" for one in bad))
        raise ClusterError(
            f"{head}: {len(bad)} of {len(results)} tests of {', '.join(names)} did not pass",
            tail="\n".join(f"{one.name}: {one.message}" for one in bad),
            hint=f"it is installed all the same: doit opkg remove {life.cluster.name} {' '.join(reversed(names))}",
            log=kept,
        )
