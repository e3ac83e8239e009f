"""What is made of a distribution: its base root, and what else is made of packages alone: the tools that build, the
installer, a testbed for Xen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipeline import emulated, kept, naming
from pipeline.guests import flavours
from pipeline.manifests.distro import Distro
from pipeline.manifests.recipes import Recipes
from pipeline.packages.families import FAMILIES
from pipeline.packages.family import Maker
from pipeline.packages.lock import NAME as LOCK
from pipeline.step import Parent, Step

#: The host programs that write layers, and unpack them.
LAYER_TOOLS = ("tar", "zstd")
#: What compresses without a program.
COMPRESSING_TOOLS = (*LAYER_TOOLS, "python:zstandard")

#: Packages that are asked for, each with who asks: ("munge", "OPKG slurm").
Asked = list[tuple[str, str]]


def asked(by: str, packages: Iterable[str]) -> Asked:
    """What a lock is asked for, and by whom: errors name them."""
    return [(package, by) for package in packages]


def lock(name: str, what: str, distro: Distro, wanted: Asked, *base: str) -> Step:
    """The lock of what is wanted, on top of the locks `base` if there are any."""
    askers: dict[str, list[str]] = {}
    for package, by in wanted:
        askers.setdefault(package, []).append(by)
    parents = [Parent("index", naming.index(distro.name)), *(Parent("base", task) for task in base)]
    maker = FAMILIES[distro.family].lock
    return Step(
        "lock",
        name,
        f"exact versions and checksums of {what}",
        maker.name,
        params={
            "packages": {package: ", ".join(dict.fromkeys(by)) for package, by in sorted(askers.items())},
            **distro.choice(),
        },
        parents=tuple(parents),
        tools=maker.tools,
    )


def fetch(recipes: Recipes, name: str, what: str, distro: Distro) -> Step:
    """The packages of the lock of that name."""
    family = FAMILIES[distro.family]
    return Step(
        "fetch",
        name,
        f"{what}, fetched and checked against the lock",
        family.fetch.name,
        params=distro.place(),
        files=_keys(recipes, distro) if "keys" in distro.place() else (),
        parents=(Parent("lock", f"lock:{name}", LOCK),),
        tools=family.fetch.tools,
        network=True,
        mirrors=family.mirrors,
    )


def machine(distro: Distro) -> tuple[Parent, ...]:
    """In what programs of a distribution are run while roots are made, where this machine's kernel is too new."""
    return (Parent("machine", naming.netboot(distro.hardware)),) if distro.vsyscall else ()


def machine_tools(distro: Distro) -> tuple[str, ...]:
    """The host programs for that."""
    return emulated.TOOLS if distro.vsyscall else ()


def assembled(
    kind: str,
    name: str,
    doc: str,
    maker: Maker,
    locked: str,
    *,
    on: Iterable[Parent] = (),
    params: Mapping[str, Any] | None = None,
    tools: Iterable[str] = (),
) -> Step:
    """What is made of the packages that were locked and fetched under the name `locked`, on top of layers."""
    return Step(
        kind,
        name,
        doc,
        maker.name,
        params=params or {},
        tools=(*maker.tools, *tools),
        parents=(*on, Parent("lock", f"lock:{locked}", LOCK), Parent("fetch", f"fetch:{locked}")),
    )


def steps(recipes: Recipes, distro: Distro) -> list[Step]:
    """All of a distribution."""
    name, family = distro.name, FAMILIES[distro.family]
    root = assembled(
        "root",
        name,
        f"base root file system of {name}",
        family.root,
        name,
        on=machine(distro),
        params=distro.base(),
        tools=machine_tools(distro),
    )
    initrd = Step(
        "initrd",
        name,
        f"small ramdisk with which machines of {name} find their root",
        "pipeline.builders.initrd:build",
        params={"own": True} if flavours.of(distro.guest).own_ramdisk else {},
        parents=(Parent("layer", root.task),),
        ships=("installer",),
        tools=COMPRESSING_TOOLS,
    )
    return [
        *(_dom0(recipes, distro, root) if distro.packages.dom0 else ()),
        *(_xltools(recipes, distro) if distro.packages.xl else ()),
        _index(recipes, distro),
        lock(
            name,
            f"the base packages of {name}",
            distro,
            asked(f"distribution {name}", [*distro.packages.base, distro.kernel]),
        ),
        fetch(recipes, name, f"base packages of {name}", distro),
        root,
        initrd,
        Step(
            "kernel",
            name,
            f"kernel and ramdisk of {name} as files, for hypervisors that load them themselves",
            "pipeline.builders.kernel:build",
            parents=(Parent("layer", root.task), Parent("layer", initrd.task)),
            tools=LAYER_TOOLS,
        ),
    ]


def keys(recipes: Recipes, distro: Distro) -> list[str]:
    """Where the keys lie that sign a distribution."""
    return [str((recipes.folder / key).absolute()) for key in distro.keys]


def _keys(recipes: Recipes, distro: Distro) -> tuple[tuple[str, str], ...]:
    """The same as files that a step reads: one that is not there is told where it is wanted."""
    there = (key for key in distro.keys if (recipes.folder / key).is_file())  # names that are those of any checkout
    return tuple((key, str(kept.of(recipes.folder, key))) for key in there)


def _index(recipes: Recipes, distro: Distro) -> Step:
    family = FAMILIES[distro.family]
    return Step(
        "index",
        distro.name,
        f"snapshot of the package index of {distro.name}, signatures checked",
        family.index.name,
        params=distro.source(),
        files=_keys(recipes, distro),
        tools=family.index.tools,
        network=True,
        mirrors=family.mirrors,
        snapshot=True,
    )


def _dom0(recipes: Recipes, distro: Distro, root: Step) -> list[Step]:
    name, stack = f"dom0-{distro.name}", (Parent("layer", root.task),)
    layer = assembled(
        "packages",
        name,
        f"layer: hypervisor, dom0 kernel and libvirt for {distro.name}",
        FAMILIES[distro.family].layer,
        name,
        on=stack,
        params=distro.installed(),
    )
    return [
        lock(
            name,
            f"what makes a Xen host of {distro.name}",
            distro,
            asked(f"distribution {distro.name}", distro.packages.dom0),
            f"lock:{distro.name}",
        ),
        fetch(recipes, name, f"packages that make a Xen host of {distro.name}", distro),
        layer,
        Step(
            "dom0",
            distro.name,
            f"disk, hypervisor, kernel and ramdisk of a Xen host with {distro.name}",
            "pipeline.builders.dom0:build",
            parents=(*stack, Parent("layer", layer.task), Parent("toolroot", f"toolroot:{distro.hardware}")),
            ships=("dom0", "installer"),
            tools=COMPRESSING_TOOLS,
        ),
    ]


def _xltools(recipes: Recipes, distro: Distro) -> list[Step]:
    name = f"xltools-{distro.name}"
    return [
        lock(name, f"Xen's xl of {distro.name}", distro, asked(f"distribution {distro.name}", distro.packages.xl)),
        fetch(recipes, name, f"packages of Xen's xl of {distro.name}", distro),
        assembled(
            "xltools",
            distro.name,
            f"Xen's xl of {distro.name}, to check configurations with",
            FAMILIES[distro.family].unpacked,
            name,
        ),
    ]


def netboot_steps(recipes: Recipes, architecture: str) -> list[Step]:
    """The tools that build, and the installer."""
    netboot = recipes.netboot(architecture)
    distro = recipes.distro(netboot.distro)
    name = f"netboot-{architecture}"
    tools = assembled(
        "toolroot",
        architecture,
        "build tools of fixed versions, whatever the host has",
        FAMILIES[distro.family].unpacked,
        name,
    )
    toolroot = Parent("toolroot", tools.task)
    return [
        lock(
            name,
            f"the build tools and the installer for {architecture}",
            distro,
            asked(f"netboot {architecture}", netboot.packages),
        ),
        fetch(recipes, name, f"packages of the build tools and the installer for {architecture}", distro),
        tools,
        Step(
            "bootloader",
            architecture,
            "GRUB for disks of head and compute nodes",
            "pipeline.builders.bootloader:build",
            parents=(toolroot,),
            tools=LAYER_TOOLS,
        ),
        Step(
            "netboot",
            architecture,
            "kernel and installer ramdisk for compute nodes without a system",
            "pipeline.builders.netboot:build",
            parents=(toolroot,),
            ships=("installer",),
            tools=COMPRESSING_TOOLS,
        ),
    ]
