"""What is made of a distribution: its base root, and what else is made of packages alone: the tools that build, the
installer, a testbed for Xen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline import kept, naming
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


def lock(name: str, what: str, distro: Distro, wanted: Asked, base: str = "") -> Step:
    """The lock of what is wanted, on top of the lock `base` if there is one."""
    askers: dict[str, list[str]] = {}
    for package, by in wanted:
        askers.setdefault(package, []).append(by)
    parents = [Parent("index", naming.index(distro.name))]
    if base:
        parents.append(Parent("base", base))
    maker = FAMILIES[distro.family].lock
    return Step(
        "lock",
        name,
        f"exact versions and checksums of {what}",
        maker.name,
        params={
            "packages": {package: ", ".join(dict.fromkeys(by)) for package, by in sorted(askers.items())},
            "architecture": distro.architecture,
        },
        parents=tuple(parents),
        tools=maker.tools,
    )


def fetch(name: str, what: str, distro: Distro) -> Step:
    """The packages of the lock of that name."""
    family = FAMILIES[distro.family]
    return Step(
        "fetch",
        name,
        f"{what}, fetched and checked against the lock",
        family.fetch.name,
        params={"mirror": distro.mirror, "suites": list(distro.suites)},
        parents=(Parent("lock", f"lock:{name}", LOCK),),
        tools=family.fetch.tools,
        network=True,
        mirrors=family.mirrors,
    )


def assembled(
    kind: str,
    name: str,
    doc: str,
    maker: Maker,
    locked: str,
    *,
    on: Iterable[Parent] = (),
    params: Mapping[str, Any] | None = None,
) -> Step:
    """What is made of the packages that were locked and fetched under the name `locked`, on top of layers."""
    return Step(
        kind,
        name,
        doc,
        maker.name,
        params=params or {},
        tools=maker.tools,
        parents=(*on, Parent("lock", f"lock:{locked}", LOCK), Parent("fetch", f"fetch:{locked}")),
    )


def steps(recipes: Recipes, distro: Distro, keyring: str) -> list[Step]:
    """All of a distribution."""
    name, family = distro.name, FAMILIES[distro.family]
    root = assembled(
        "root",
        name,
        f"base root file system of {name}",
        family.root,
        name,
        params={"suite": distro.suite, "architecture": distro.architecture},
    )
    initrd = Step(
        "initrd",
        name,
        f"small ramdisk with which machines of {name} find their root",
        "pipeline.builders.initrd:build",
        parents=(Parent("layer", root.task),),
        ships=("installer",),
        tools=COMPRESSING_TOOLS,
    )
    return [
        *(_dom0(distro, root) if distro.packages.dom0 else ()),
        *(_xltools(distro) if distro.packages.xl else ()),
        _index(recipes, distro, keyring),
        lock(
            name,
            f"the base packages of {name}",
            distro,
            asked(f"distribution {name}", [*distro.packages.base, distro.kernel]),
        ),
        fetch(name, f"base packages of {name}", distro),
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


def _index(recipes: Recipes, distro: Distro, keyring: str) -> Step:
    """Signatures are checked with a keyring: one that is not there is told where it is wanted."""
    family = FAMILIES[distro.family]
    return Step(
        "index",
        distro.name,
        f"snapshot of the package index of {distro.name}, signatures checked",
        family.index.name,
        params={
            "suites": list(distro.suites),
            "components": list(distro.components),
            "architecture": distro.architecture,
            "keyring": distro.keyring,
            "mirror": distro.mirror,
        },
        files=((keyring, str(kept.of(recipes.folder, keyring))),) if Path(keyring).is_file() else (),
        tools=family.index.tools,
        network=True,
        mirrors=family.mirrors,
        snapshot=True,
    )


def _dom0(distro: Distro, root: Step) -> list[Step]:
    name, stack = f"dom0-{distro.name}", (Parent("layer", root.task),)
    layer = assembled(
        "packages",
        name,
        f"layer: hypervisor, dom0 kernel and libvirt for {distro.name}",
        FAMILIES[distro.family].layer,
        name,
        on=stack,
    )
    return [
        lock(
            name,
            f"what makes a Xen host of {distro.name}",
            distro,
            asked(f"distribution {distro.name}", distro.packages.dom0),
            f"lock:{distro.name}",
        ),
        fetch(name, f"packages that make a Xen host of {distro.name}", distro),
        layer,
        Step(
            "dom0",
            distro.name,
            f"disk, hypervisor, kernel and ramdisk of a Xen host with {distro.name}",
            "pipeline.builders.dom0:build",
            parents=(*stack, Parent("layer", layer.task), Parent("toolroot", f"toolroot:{distro.architecture}")),
            ships=("dom0", "installer"),
            tools=COMPRESSING_TOOLS,
        ),
    ]


def _xltools(distro: Distro) -> list[Step]:
    name = f"xltools-{distro.name}"
    return [
        lock(name, f"Xen's xl of {distro.name}", distro, asked(f"distribution {distro.name}", distro.packages.xl)),
        fetch(name, f"packages of Xen's xl of {distro.name}", distro),
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
        fetch(name, f"packages of the build tools and the installer for {architecture}", distro),
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
