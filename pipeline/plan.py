"""Manifests -> steps: the one place in which the shape of the pipeline is read.

Planning is pure: from what stands in `recipes/` alone it yields every step, its inputs and its name.  Nothing is
built, run or asked of the network here.

    index ── lock ── fetch ── root ── initrd ─┬─ packages/head ── opkgs/head ─┬─ headnode
                                              │                               └─ disk/head
                                              └─ packages/compute ── opkgs/compute ── image (SIS)
    index ── lock ── fetch ── toolroot ─┬─ bootloader       (host-independent build tools)
                                        └─ netboot          (installer kernel and ramdisk)
    index ── lock ── fetch ── xltools ── xenconfig          (configurations for Xen, read by libxl)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline import naming
from pipeline.description import Cluster, Host, Role
from pipeline.errors import ManifestError
from pipeline.manifests import kept, opkg, opkgfolder
from pipeline.manifests.distro import Distro
from pipeline.manifests.recipes import Recipes
from pipeline.step import Made, Parent, Plan, Record, Stack, Step

_ROLES: tuple[Role, ...] = ("head", "compute")

#: Packages that are asked for, each with who asks: ("munge", "OPKG slurm").
Asked = list[tuple[str, str]]

#: The host programs that write layers, and unpack them.
_LAYER_TOOLS = ("tar", "zstd")
#: Those that change layers: where a rename is refused they work on a copy.
_CHANGING_TOOLS = ("cp", "dpkg-deb", *_LAYER_TOOLS)
#: What compresses without a program.
_COMPRESSING_TOOLS = (*_LAYER_TOOLS, "python:zstandard")

#: OPKG dependencies and files are for servers and clients; machines are head and compute nodes.
_OPKG_SIDE: dict[Role, Literal["server", "client"]] = {"head": "server", "compute": "client"}


def make(recipes: Recipes) -> Plan:
    """The plan for everything in the recipes that can be made; a mistake stops only what needs that recipe."""
    plan = Plan()
    for kind, add in _KINDS.items():
        for name in recipes.names(kind):
            try:
                add(plan, recipes, name)
            except ManifestError as error:
                plan.broken[f"{kind}/{name}"] = error.message
    plan.warnings.extend(map(str, recipes.warnings()))
    return plan


def _add_netboot(plan: Plan, recipes: Recipes, name: str) -> None:
    _add(plan, _netboot_steps(recipes, name))


def _add_distro(plan: Plan, recipes: Recipes, name: str) -> None:
    keyring = str((recipes.folder / recipes.distro(name).keyring).absolute())
    plan.reads.append(keyring)
    _add(plan, _distro_steps(recipes, recipes.distro(name), keyring))


def _add_host(plan: Plan, recipes: Recipes, name: str) -> None:
    host = recipes.host(name).describe()
    plan.hosts[name] = host
    if host.connection == "testbed":
        plan.testbeds[name] = (naming.dom0(host.distro), naming.netboot(recipes.distro(host.distro).architecture))


def _add_opkg(plan: Plan, recipes: Recipes, name: str) -> None:
    recipes.opkg(name)  # it is part of clusters; but one that none of them names is told if it is broken


def _add_cluster(plan: Plan, recipes: Recipes, name: str) -> None:
    description = recipes.describe(name)
    plan.reads.extend([*recipes.cluster(name).packages.head, *recipes.cluster(name).packages.compute])
    steps, made = _cluster_steps(recipes, name, description)
    _add(plan, steps)
    plan.clusters[name] = description
    plan.made[name] = made
    verdict = _verdict(name, made)
    plan.records[verdict.task] = verdict


#: What a recipe of each kind adds to the plan.
_KINDS: dict[str, Callable[[Plan, Recipes, str], None]] = {
    "netboot": _add_netboot, "distros": _add_distro, "hosts": _add_host, "opkgs": _add_opkg, "clusters": _add_cluster,
}


def _add(plan: Plan, steps: Iterable[Step]) -> None:
    plan.steps.update({step.task: step for step in steps})


def _index(recipes: Recipes, distro: Distro, keyring: str) -> Step:
    """Signatures are checked with a keyring: one that is not there is told where it is wanted."""
    return Step(
        "index", distro.name, f"snapshot of the package index of {distro.name}, signatures checked",
        "pipeline.families.deb:index",
        params={"suites": list(distro.suites), "components": list(distro.components),
                "architecture": distro.architecture, "keyring": distro.keyring, "mirror": distro.mirror},
        files=((keyring, str(kept.of(recipes.folder, keyring))),) if Path(keyring).is_file() else (),
        tools=("apt-get", "apt-config", "gpgv"), network=True, snapshot=True)


def _asked(by: str, packages: Iterable[str]) -> Asked:
    """What a lock is asked for, and by whom: errors name them."""
    return [(package, by) for package in packages]


def _lock(name: str, what: str, distro: Distro, asked: Asked, base: str = "") -> Step:
    askers: dict[str, list[str]] = {}
    for package, by in asked:
        askers.setdefault(package, []).append(by)
    parents = [Parent("index", naming.index(distro.name))]
    if base:
        parents.append(Parent("base", base))
    return Step("lock", name, f"exact versions and checksums of {what}", "pipeline.families.deb:lock",
                params={"packages": {package: ", ".join(dict.fromkeys(by)) for package, by in sorted(askers.items())},
                        "architecture": distro.architecture}, parents=tuple(parents),
                tools=("apt-get",))


def _fetch(name: str, what: str, distro: Distro) -> Step:
    return Step("fetch", name, f"{what}, fetched and checked against the lock", "pipeline.families.deb:fetch",
                params={"mirror": distro.mirror, "suites": list(distro.suites)},
                parents=(Parent("lock", f"lock:{name}", "lock.json"),), tools=("apt-config",), network=True)


def _distro_steps(recipes: Recipes, distro: Distro, keyring: str) -> list[Step]:
    name = distro.name
    return [
        *(_dom0_steps(distro) if distro.packages.dom0 else ()),
        *(_xltools_steps(distro) if distro.packages.xl else ()),
        _index(recipes, distro, keyring),
        _lock(name, f"the base packages of {name}", distro,
              _asked(f"distribution {name}", [*distro.packages.base, distro.kernel])),
        _fetch(name, f"base packages of {name}", distro),
        Step("root", name, f"base root file system of {name}", "pipeline.build.root:build",
             params={"suite": distro.suite, "architecture": distro.architecture},
             parents=(Parent("lock", f"lock:{name}", "lock.json"), Parent("fetch", f"fetch:{name}")),
             tools=("dpkg-deb", *_LAYER_TOOLS)),
        Step("initrd", name, f"small ramdisk with which machines of {name} find their root",
             "pipeline.build.initrd:build", parents=(Parent("layer", f"root:{name}"),), ships=("netboot",),
             tools=_COMPRESSING_TOOLS),
        Step("kernel", name, f"kernel and ramdisk of {name} as files, for hypervisors that load them themselves",
             "pipeline.build.kernelfiles:build",
             parents=(Parent("layer", f"root:{name}"), Parent("layer", f"initrd:{name}")), tools=_LAYER_TOOLS),
    ]


def _dom0_steps(distro: Distro) -> list[Step]:
    name = f"dom0-{distro.name}"
    stack = (Parent("layer", f"root:{distro.name}"),)
    return [
        _lock(name, f"what makes a Xen host of {distro.name}", distro,
              _asked(f"distribution {distro.name}", distro.packages.dom0), f"lock:{distro.name}"),
        _fetch(name, f"packages that make a Xen host of {distro.name}", distro),
        Step("packages", name, f"layer: hypervisor, dom0 kernel and libvirt for {distro.name}",
             "pipeline.build.packages:build",
             parents=(*stack, Parent("lock", f"lock:{name}", "lock.json"), Parent("fetch", f"fetch:{name}")),
             tools=_CHANGING_TOOLS),
        Step("dom0", distro.name, f"disk, hypervisor, kernel and ramdisk of a Xen host with {distro.name}",
             "pipeline.build.dom0:build",
             parents=(*stack, Parent("layer", f"packages:{name}"),
                      Parent("toolroot", f"toolroot:{distro.architecture}")), ships=("dom0", "netboot"),
             tools=_COMPRESSING_TOOLS),
    ]


def _xltools_steps(distro: Distro) -> list[Step]:
    name = f"xltools-{distro.name}"
    return [
        _lock(name, f"Xen's xl of {distro.name}", distro, _asked(f"distribution {distro.name}", distro.packages.xl)),
        _fetch(name, f"packages of Xen's xl of {distro.name}", distro),
        Step("xltools", distro.name, f"Xen's xl of {distro.name}, to check configurations with",
             "pipeline.build.toolroot:build",
             parents=(Parent("lock", f"lock:{name}", "lock.json"), Parent("fetch", f"fetch:{name}")),
             tools=("dpkg-deb", *_LAYER_TOOLS)),
    ]


def _netboot_steps(recipes: Recipes, architecture: str) -> list[Step]:
    netboot = recipes.netboot(architecture)
    distro = recipes.distro(netboot.distro)
    name = f"netboot-{architecture}"
    toolroot = Parent("toolroot", f"toolroot:{architecture}")
    return [
        _lock(name, f"the build tools and the installer for {architecture}", distro,
              _asked(f"netboot {architecture}", netboot.packages)),
        _fetch(name, f"packages of the build tools and the installer for {architecture}", distro),
        Step("toolroot", architecture, "build tools of fixed versions, whatever the host has",
             "pipeline.build.toolroot:build",
             parents=(Parent("lock", f"lock:{name}", "lock.json"), Parent("fetch", f"fetch:{name}")),
             tools=("dpkg-deb", *_LAYER_TOOLS)),
        Step("bootloader", architecture, "GRUB for disks of head and compute nodes",
             "pipeline.build.bootloader:build", parents=(toolroot,), tools=_LAYER_TOOLS),
        Step("netboot", architecture, "kernel and installer ramdisk for compute nodes without a system",
             "pipeline.build.netboot:build", parents=(toolroot,), ships=("netboot",), tools=_COMPRESSING_TOOLS),
    ]


def _cluster_steps(recipes: Recipes, name: str, cluster: Cluster) -> tuple[list[Step], Made]:
    distro = recipes.distro(cluster.distro)
    host = recipes.host(cluster.host).describe()
    tools = (Parent("toolroot", f"toolroot:{distro.architecture}"),
             Parent("bootloader", f"bootloader:{distro.architecture}"))
    steps: list[Step] = []
    layers: dict[Role, tuple[Parent, ...]] = {}
    stacks: dict[Role, Stack] = {}
    for role in _ROLES:
        made, layers[role], stacks[role] = _stack(recipes, distro, cluster, role)
        steps += made
    image = Step("image", name, f"SIS image of the compute nodes of {name}", "pipeline.build.image:build",
                 params={"cluster": cluster.to_json()},
                 parents=(*layers["compute"], *tools, Parent("netboot", naming.netboot(distro.architecture))),
                 tools=_LAYER_TOOLS)
    definitions = Step("vmconfig", name, f"domain definitions of {name}", "pipeline.build.vmconfig:build",
                       params={"cluster": cluster.to_json(), "host": dataclasses.asdict(host)})
    xenconfig = Step("xenconfig", name, f"configurations of the machines of {name} for xl, accepted by libxl",
                     "pipeline.build.xenconfig:build", params={"cluster": cluster.to_json()},
                     parents=_xltools(recipes, distro, host), ships=("build/libxl_shim.c",), tools=_LAYER_TOOLS)
    disks = {
        cluster.head.name: Step(
            "disk", f"{name}/{cluster.head.name}", f"disk of the head node of {name}", "pipeline.build.disk:head",
            params={"cluster": cluster.to_json()}, parents=(*layers["head"], *tools), tools=_LAYER_TOOLS),
        **{node.name: Step(
            "disk", f"{name}/{node.name}", f"empty disk of compute node {node.name} of {name}",
            "pipeline.build.disk:empty", params={"size_mib": node.disk_mib}) for node in cluster.nodes},
    }
    steps += [
        Step("headnode", name, f"the head node of {name} as a tarball (.tar.zst)", "pipeline.build.headnode:build",
             parents=layers["head"], tools=_COMPRESSING_TOOLS),
        image, definitions, xenconfig, *disks.values(),
    ]
    return steps, Made(
        image.task, definitions.task, {machine: step.task for machine, step in disks.items()}, stacks,
        naming.netboot(distro.architecture), **_on_xen(cluster, host, xenconfig))


def _on_xen(cluster: Cluster, host: Host, xenconfig: Step) -> Mapping[str, str]:
    """What a cluster on Xen is made of besides: checked configurations, the hypervisor, a kernel from outside."""
    if host.hypervisor != "xen":
        return {}
    outside = any(machine.boot == "kernel" for machine in cluster.machines)
    return {"xenconfig": xenconfig.task, "dom0": naming.dom0(host.distro) if host.connection == "testbed" else "",
            "kernel": f"kernel:{cluster.distro}" if outside else ""}


def _verdict(cluster: str, made: Made) -> Record:
    """Its key says for what it was given and by which checks."""
    return Record("verify", cluster, f"verdict on the running cluster {cluster}", "pipeline.checks.verify:verify",
                  parents=tuple(Parent(role, task) for role, task in made.parts().items()), ships=("checks",))


def _xltools(recipes: Recipes, distro: Distro, host: Host) -> tuple[Parent, ...]:
    """The xl that a cluster's configurations are checked with: its own distribution's, its host's, or any."""
    candidates = [distro, *([recipes.distro(host.distro)] if host.distro else []), *recipes.distros()]
    found = next((one.name for one in candidates if one.packages.xl), "")
    return (Parent("toolroot", f"xltools:{found}"),) if found else ()


def _stack(recipes: Recipes, distro: Distro, cluster: Cluster,
           role: Role) -> tuple[list[Step], tuple[Parent, ...], Stack]:
    """The root file system of a role as a stack of layers: what changes most lies on top."""
    name, base = f"{cluster.name}/{role}", distro.name
    what = "the head node" if role == "head" else "the compute nodes"
    opkgs = [recipes.opkg(opkg) for opkg in cluster.opkgs]
    asked = _asked(f"distribution {base}", distro.packages.head if role == "head" else distro.packages.compute)
    for one in opkgs:
        asked += _asked(f"OPKG {one.name}", opkg.packages(one, _OPKG_SIDE[role], distro))
    stack = [Parent("layer", f"root:{base}"), Parent("layer", f"initrd:{base}")]
    lock = _lock(name, f"the packages of {what} of {cluster.name}", distro, asked, f"lock:{base}")
    steps = [
        lock,
        _fetch(name, f"packages of {what} of {cluster.name}", distro),
        Step("packages", name, f"layer: all locked distribution packages of {what}", "pipeline.build.packages:build",
             parents=(*stack, Parent("lock", lock.task, "lock.json"), Parent("fetch", f"fetch:{name}")),
             tools=_CHANGING_TOOLS),
    ]
    stack.append(Parent("layer", f"packages:{name}"))
    packages = recipes.cluster(cluster.name).packages
    given = packages.head if role == "head" else packages.compute
    under_test = ""
    local = [str(Path(path).resolve()) for path in given]  # a link stands for what it points at
    if local:
        layer = Step(
            "localpackages", name, f"layer: the packages under test on {what}", "pipeline.build.localpackages:build",
            params={"packages": [Path(path).name for path in local]},
            files=tuple((path, str(kept.of(recipes.folder, path))) for path in local),
            parents=tuple(stack), tools=_CHANGING_TOOLS)
        steps.append(layer)
        stack.append(Parent("layer", layer.task))
        under_test = layer.task
    files: dict[str, str] = {}
    for one in opkgs:
        files.update(opkgfolder.content(one, _OPKG_SIDE[role]))
    params: dict[str, Any] = {"side": role, "cluster": cluster.to_json(), "opkgs": list(cluster.opkgs)}
    top = Step(
        "opkgs", name, f"layer: files and scripts of the OPKGs on {what}", "pipeline.build.opkgs:build",
        params=params, files=tuple(sorted(files.items())), parents=tuple(stack), tools=_LAYER_TOOLS)
    return ([*steps, top], (*stack, Parent("layer", top.task)),
            Stack((f"lock:{base}", lock.task), under_test, top.task))
