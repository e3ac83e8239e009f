"""Manifests -> steps: the one place in which the shape of the pipeline is read.

Planning is pure: from what stands in `recipes/` alone it yields every step, its inputs and its name.  Nothing is
built, run or asked of the network here.

    index ── lock ── fetch ── root ── initrd ─┬─ packages/head ── opkgs/head ─┬─ headnode
                                              │                               └─ disk/head
                                              └─ packages/compute ── opkgs/compute ── image (SIS)
    index ── lock ── fetch ── toolroot ─┬─ bootloader       (host-independent build tools)
                                        └─ netboot          (installer kernel and ramdisk)
    index ── lock ── fetch ── xltools ── xenconfig          (configurations for Xen, read by libxl)

Where a cluster boots the kernel of another distribution, `modernkernel` stands in place of `initrd`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline import naming
from pipeline.description import Cluster
from pipeline.drivers import domain
from pipeline.errors import ManifestError, UserError
from pipeline.hosts import kinds
from pipeline.manifests.recipes import Recipes
from pipeline.mistakes import Mistake, fail, shown
from pipeline.plan import cluster, distro
from pipeline.step import Plan, Step


def make(recipes: Recipes, lots: Mapping[str, int] | UserError = MappingProxyType({})) -> Plan:
    """The plan for everything in the recipes that can be made; a mistake stops only what needs that recipe.

    `lots` are those of clusters that share a host (see `allocation`), or why they have none; others have lot 0.
    """
    plan = Plan(lots={} if isinstance(lots, UserError) else dict(lots))
    sharing = {name for names in recipes.sharing().values() for name in names} if isinstance(lots, UserError) else ()
    for kind, add in _KINDS.items():
        for name in recipes.names(kind):
            if isinstance(lots, UserError) and kind == "clusters" and name in sharing:
                plan.broken[f"{kind}/{name}"] = f"{lots.message}; {lots.hint}"
                continue
            try:
                add(plan, recipes, name)
            except ManifestError as error:
                plan.broken[f"{kind}/{name}"] = error.message
    plan.reads.extend(sorted(map(str, recipes.lists)))
    plan.warnings.extend(map(str, recipes.warnings()))
    return plan


def _add_netboot(plan: Plan, recipes: Recipes, name: str) -> None:
    _add(plan, distro.netboot_steps(recipes, name))


def _add_distro(plan: Plan, recipes: Recipes, name: str) -> None:
    plan.reads.extend(distro.keys(recipes, recipes.distro(name)))
    _add(plan, distro.steps(recipes, recipes.distro(name)))


def _add_host(plan: Plan, recipes: Recipes, name: str) -> None:
    host = recipes.describe_host(name)
    plan.hosts[name] = host
    if kinds.of(host.connection).is_made:
        plan.testbeds[name] = (naming.dom0(host.distro), naming.netboot(recipes.distro(host.distro).hardware))


def _add_opkg(plan: Plan, recipes: Recipes, name: str) -> None:
    recipes.opkg(name)  # it is part of clusters; but one that none of them names is told if it is broken


def _add_cluster(plan: Plan, recipes: Recipes, name: str) -> None:
    description = recipes.describe(name, plan.lots.get(name, 0))
    require_apart(plan, recipes, description)
    plan.reads.extend([*recipes.cluster(name).packages.head, *recipes.cluster(name).packages.compute])
    steps, made = cluster.steps(recipes, name, description)
    _add(plan, steps)
    plan.clusters[name] = description
    plan.made[name] = made
    verdict = cluster.verdict(description, made)
    plan.records[verdict.task] = verdict


#: What a recipe of each kind adds to the plan.
_KINDS: dict[str, Callable[[Plan, Recipes, str], None]] = {
    "netboot": _add_netboot,
    "distros": _add_distro,
    "hosts": _add_host,
    "opkgs": _add_opkg,
    "clusters": _add_cluster,
}


def _add(plan: Plan, steps: Iterable[Step]) -> None:
    plan.steps.update({step.task: step for step in steps})


def require_apart(
    plan: Plan, recipes: Recipes, cluster: Cluster, drafts: Mapping[Path, str] = MappingProxyType({})
) -> None:
    """Raise ManifestError where a machine would be called as one of another cluster on the same host, or have its MAC.
    `drafts` are what recipes would hold."""
    where = plan.hosts[cluster.host]
    if not kinds.of(where.connection).is_shared:
        return
    own = {domain.name_of(cluster.name, machine.name): machine.name for machine in cluster.machines}
    said = recipes.said_macs(cluster.name, drafts)
    macs = {card.mac: machine.name for machine in cluster.machines for card in machine.interfaces}
    for other in plan.clusters.values():
        if other.name == cluster.name:
            continue
        there = plan.hosts[other.host]
        if there.name != where.name and (there.connection != where.connection or kinds.of(there.connection).is_made):
            continue
        either = said | recipes.said_macs(other.name)  # all others count from lots
        for machine in other.machines:
            name = domain.name_of(other.name, machine.name)
            whose = f"as {machine.name} of {other.name}"
            text = ""
            if name in own:
                text = f"{own[name]} would be called {name} on {where.name}, {whose} is; expected other names"
            elif same := [card.mac for card in machine.interfaces if card.mac in macs and card.mac in either]:
                text = (
                    f"{macs[same[0]]} would have the MAC {same[0]} on {where.name}, {whose} has; expected another one"
                )
            if text:
                fail([Mistake(shown(recipes.file(cluster.name)), 1, "", f"{text} in one of them")])
