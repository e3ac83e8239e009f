"""OPKGs that came to a cluster while it ran go again, through their phases.

Taken away is what came: services that were started for it, its files where nobody has changed them, its packages where
nothing else needs them.  What its files had replaced comes back.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Mapping, Sequence

from pipeline.cluster import onmachine
from pipeline.cluster.added import Added
from pipeline.cluster.course import few
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.onmachine import OnMachines, Told
from pipeline.description import Machine
from pipeline.errors import NotNow
from pipeline.opkgs.phases import PHASES, When, side_of


def remove(life: Lifecycle, names: Sequence[str]) -> Iterator[Told]:
    """Take OPKGs away; what was done where, as it happens."""
    cluster, there = life.cluster, life.added.there()
    require_free(cluster.name, cluster.opkgs, there, names)
    for name in names:
        if name not in there:
            yield "", f"OPKG {name} is not there: nothing to remove"
    going = [one for one in reversed(there.values()) if one.name in names]
    if not going:
        return
    with life.runner.alone():
        _require_running(life)
        on = onmachine.of(life)
        with onmachine.noting_changes(life, on), on.connected():
            on.call(cluster.machines, "", "begin", "a list of all files")
            for one in going:
                yield from _take(life, on, one)
        for one in going:
            life.added.put(Added(one.name, "gone"))
    left = life.added.there()
    for name in sorted({name for one in going for name in one.chains} & left.keys()):
        if not any(name in one.chains for one in left.values()):
            yield "", f"OPKG {name}, which came along, stays: doit opkg remove {cluster.name} {name}"
    yield "", "users that packages made, and what scripts did that no script for removal undoes, are still there"


def require_free(cluster: str, recipe: Sequence[str], there: Mapping[str, Added], names: Sequence[str]) -> None:
    """Raise NotNow where one of these OPKGs cannot go: the recipe has it, or another one needs it."""
    for name in names:
        if name in recipe:
            raise NotNow(
                f"OPKG {name} is in the recipe of {cluster}: every machine was made with it",
                hint=f"take it out of opkgs in recipes/clusters/{cluster}.toml; doit cluster:{cluster} makes the "
                "machines anew without it",
            )
        chains = [one.chains[name] for one in there.values() if name in one.chains and one.name not in names]
        if name in there and chains:
            raise NotNow(
                f"OPKG {name} is required: {', '.join(' -> '.join(chain) for chain in chains)}",
                hint=f"doit opkg remove {cluster} {' '.join([*(chain[0] for chain in chains), name])} takes all away",
            )


def packages_to_go(one: Added, there: Mapping[str, Added], membership: str) -> list[str]:
    """The packages that came with an OPKG and that no other one needs."""
    needed = {
        package for other in there.values() if other.name != one.name for package in other.packages.get(membership, {})
    }
    return [package for package in one.packages.get(membership, {}) if package not in needed]


def _require_running(life: Lifecycle) -> None:
    states = life.states()
    for machine in life.cluster.machines:
        state = states.get(machine.name, "not there")
        if state != "running":
            raise NotNow(
                f"{machine.name} is {state}: an OPKG goes from all machines at once",
                hint=f"doit cluster:{life.cluster.name}",
            )


def _take(life: Lifecycle, on: OnMachines, one: Added) -> Iterator[Told]:
    """Take away one OPKG, from the machines that have anything of it."""
    cluster, name, there = life.cluster, one.name, life.added.there()
    machines = [each for each in cluster.machines if one.state != "whole" or each.name in one.machines]
    life.added.put(dataclasses.replace(one, state="leaving"))
    yield from _phases(on, one, "removing", machines)
    for membership in dict.fromkeys(machine.membership for machine in machines):
        where = [machine for machine in machines if machine.membership == membership]
        going = packages_to_go(one, there, membership)
        script = f"unfurnish && {shlex.join(['take', *going])}"
        yield from on.take_away(where, name, script, f"files and packages of OPKG {name}")
        told = cluster.head.name if membership == "head" else f"{membership} nodes"
        yield told, f"OPKG {name}: {f'packages {few(going)} removed' if going else 'no packages to remove'}"
    yield from _phases(on, one, "removed", machines)
    on.call([cluster.head], name, "take_home", f"folder of OPKG {name}")
    on.call(machines, name, "forget", f"what is known of OPKG {name}")


def _phases(on: OnMachines, one: Added, when: When, machines: Sequence[Machine]) -> Iterator[Told]:
    for phase in PHASES:
        if phase.when == when and phase.name in one.scripts:
            where = [machine for machine in machines if side_of(machine.membership) == phase.side]
            yield from on.phase(where, one.name, phase.name, leaving=True)
