"""What a cluster is made of: a root file system for each role, and of these its disks, its image, its definitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import naming
from pipeline.description import Cluster, Host
from pipeline.guests import flavours
from pipeline.hosts import kinds
from pipeline.manifests.distro import Distro
from pipeline.manifests.recipes import Recipes
from pipeline.packages.families import FAMILIES
from pipeline.plan import machine, membership
from pipeline.plan.distro import COMPRESSING_TOOLS, LAYER_TOOLS
from pipeline.step import Made, Parent, Record, Stack, Step


def steps(recipes: Recipes, name: str, cluster: Cluster) -> tuple[list[Step], Made]:
    """All that is built for a cluster, and what its machines are made of."""
    distro = recipes.distro(cluster.distro)
    host = recipes.describe_host(cluster.host)
    tools = (
        Parent("toolroot", f"toolroot:{distro.hardware}"),
        Parent("bootloader", f"bootloader:{distro.hardware}"),
    )
    modern = _modern_kernel(distro, cluster, recipes.cluster(name).kernel_from)
    found = [modern] if modern else []
    layers: dict[str, tuple[Parent, ...]] = {}
    stacks: dict[str, Stack] = {}
    for name_of in ("head", *cluster.members):
        made, layers[name_of], stacks[name_of] = membership.stack(
            recipes,
            distro,
            cluster,
            name_of,
            modern.task if modern else f"initrd:{distro.name}",
            layers.get("head", ()),
        )
        found += made
    images = {"images": {each: machine.partitions(nodes[0]) for each, nodes in cluster.members.items()}}
    netboot = Parent("netboot", naming.netboot(distro.hardware))
    image_base = Step(
        "imagebase",
        name,
        f"what lies below the SIS images of {name}: their packages",
        "pipeline.builders.image:base",
        params=images,
        parents=(
            *(
                Parent(f"image/{each}", one.task, one.part)
                for each in cluster.members
                for one in layers[each][: membership.OF_PACKAGES]
            ),
            *tools,
            netboot,
        ),
        tools=LAYER_TOOLS,
    )
    image = Step(
        "image",
        name,
        f"SIS images of all that is installed in {name}",
        "pipeline.builders.image:build",
        params=images,
        parents=(
            Parent("base", image_base.task),
            *(Parent(f"image/{each}", one.task, one.part) for each in cluster.members for one in layers[each]),
            *tools,
            netboot,
        ),
        tools=LAYER_TOOLS,
    )
    disk_base = machine.base(cluster, (*layers["head"][: membership.OF_PACKAGES], *tools))
    below = Parent("base", disk_base.task)
    xltools = _xltools(recipes, distro, host)
    networks = flavours.of(cluster.guest).networks
    definitions = [machine.definition(cluster, one, host) for one in cluster.machines]
    xenconfigs = [machine.xenconfig(cluster, one, xltools) for one in cluster.machines]
    disks = [
        machine.disk(cluster, one, networks(cluster, one), (below, *layers["head"], *tools)) for one in cluster.machines
    ]
    found += [
        Step(
            "headnode",
            name,
            f"the head node of {name} as a tarball (.tar.zst)",
            "pipeline.builders.headnode:build",
            parents=layers["head"],
            tools=COMPRESSING_TOOLS,
            takes_over=True,
        ),
        image_base,
        image,
        disk_base,
        *definitions,
        *xenconfigs,
        *disks,
    ]
    return found, Made(
        image.task,
        _by_machine(cluster, definitions),
        _by_machine(cluster, disks),
        stacks,
        naming.netboot(distro.hardware),
        distro.family,
        **_on_xen(cluster, host, xenconfigs, modern.task if modern else f"kernel:{distro.name}"),
    )


def _modern_kernel(distro: Distro, cluster: Cluster, kernel_from: str) -> Step | None:
    """The kernel of another distribution, if machines boot that."""
    if not kernel_from:
        return None
    return Step(
        "modernkernel",
        cluster.name,
        f"layer: kernel of {kernel_from}, for machines of {distro.name}",
        "pipeline.builders.modernkernel:build",
        params={"files": dict(flavours.of(distro.guest).on_another_kernel)},
        parents=(Parent("layer", f"root:{distro.name}"), Parent("kernel", f"root:{kernel_from}")),
        ships=("installer",),
        tools=COMPRESSING_TOOLS,
    )


def _by_machine(cluster: Cluster, steps: Sequence[Step]) -> dict[str, str]:
    """The tasks of steps that are one a machine."""
    return {one.name: step.task for one, step in zip(cluster.machines, steps, strict=True)}


def _on_xen(cluster: Cluster, host: Host, xenconfigs: Sequence[Step], kernel: str) -> Mapping[str, Any]:
    """What a cluster on Xen is made of besides: checked configurations, the hypervisor, a kernel from outside."""
    if host.hypervisor != "xen":
        return {}
    outside = any(one.boot == "kernel" for one in cluster.machines)
    return {
        "xenconfigs": _by_machine(cluster, xenconfigs),
        "dom0": naming.dom0(host.distro) if kinds.of(host.connection).is_made else "",
        "kernel": kernel if outside else "",
    }


def verdict(cluster: Cluster, made: Made) -> Record:
    """Its key says for what it was given, by which checks, and what these ask and let pass; also what nodes have of
    their own, which is in no artifact."""
    guest, family = flavours.of(cluster.guest), FAMILIES[made.family]
    return Record(
        "verify",
        cluster.name,
        f"verdict on the running cluster {cluster.name}",
        "pipeline.checks.verify:verify",
        params={
            "cluster": cluster.to_json(),
            "networks": {node.name: dict(guest.networks(cluster, node)) for node in cluster.nodes},
            "known": list(map(dataclasses.asdict, guest.known_on(cluster))),
            "services": guest.services,
            "listing": family.listing,
            "database": family.database,
        },
        parents=tuple(Parent(role, task) for role, task in made.parts().items()),
        ships=("checks", "builders/settings.py", "builders/layout.py"),
    )


def _xltools(recipes: Recipes, distro: Distro, host: Host) -> tuple[Parent, ...]:
    """The xl that a cluster's configurations are checked with: its own distribution's, its host's, or any."""
    candidates = [distro, *([recipes.distro(host.distro)] if host.distro else []), *recipes.distros()]
    found = next((one.name for one in candidates if one.packages.xl), "")
    return (Parent("toolroot", f"xltools:{found}"),) if found else ()
