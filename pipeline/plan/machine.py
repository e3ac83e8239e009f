"""What one machine has of its own: its definition, its disk, and how Xen's xl would be told of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.description import Cluster, Host, Machine
from pipeline.hosts import kinds
from pipeline.plan.distro import LAYER_TOOLS
from pipeline.step import Parent, Step


def definition(cluster: Cluster, machine: Machine, host: Host) -> Step:
    """How libvirt is told of it."""
    return Step(
        "definition",
        f"{cluster.name}/{machine.name}",
        f"domain definition of {machine.name} of {cluster.name}",
        "pipeline.builders.definition:build",
        params={
            **_domain(cluster, machine),
            "hypervisor": host.hypervisor,
            "shared": kinds.of(host.connection).is_shared,
        },
    )


def xenconfig(cluster: Cluster, machine: Machine, xltools: tuple[Parent, ...]) -> Step:
    """How xl is told of it."""
    return Step(
        "xenconfig",
        f"{cluster.name}/{machine.name}",
        f"configuration of {machine.name} of {cluster.name} for xl, accepted by libxl",
        "pipeline.builders.xenconfig:build",
        params=_domain(cluster, machine),
        parents=xltools,
        ships=("builders/libxl_shim.c",),
        tools=LAYER_TOOLS,
    )


def base(cluster: Cluster, parents: tuple[Parent, ...]) -> Step:
    """What the head node's disk is made of: as packages alone would make it."""
    return Step(
        "diskbase",
        f"{cluster.name}/head",
        f"what lies below the disk of the head node of {cluster.name}: its packages",
        "pipeline.builders.disk:base",
        params={"machine": _disk_of(cluster.head)},
        parents=parents,
        tools=LAYER_TOOLS,
    )


def disk(cluster: Cluster, machine: Machine, networks: Mapping[str, str], parents: tuple[Parent, ...]) -> Step:
    """The head node's is made of these parents; a compute node's is empty until it is installed."""
    name = f"{cluster.name}/{machine.name}"
    if machine.role == "compute":
        return Step(
            "disk",
            name,
            f"empty disk of compute node {machine.name} of {cluster.name}",
            "pipeline.builders.disk:empty",
            params={"size_mib": machine.disk_mib},
        )
    return Step(
        "disk",
        name,
        f"disk of the head node of {cluster.name}",
        "pipeline.builders.disk:head",
        params={"machine": _disk_of(machine), "networks": dict(networks)},
        parents=parents,
        tools=LAYER_TOOLS,
    )


def _disk_of(machine: Machine) -> Any:
    """Of its hardware only the disk: more memory makes no other one."""
    known = Machine(
        machine.name, machine.membership, machine.index, 0, 0, machine.disk_mib, machine.filesystems, (),
        by_label=machine.by_label, vsyscall=machine.vsyscall,
    )  # fmt: skip
    return known.to_json()


def partitions(node: Machine) -> dict[str, Any]:
    """What the installer must know of the disk of a node; those of a membership are alike."""
    return {"disk_mib": node.disk_mib, "filesystems": list(map(dataclasses.asdict, node.filesystems))}


def _domain(cluster: Cluster, machine: Machine) -> dict[str, Any]:
    """What its domain depends on: addresses are the business of the system inside."""
    cards = tuple(dataclasses.replace(card, address="", prefix=0) for card in machine.interfaces)
    known = dataclasses.replace(machine, interfaces=cards)
    return {"cluster": cluster.name, "architecture": cluster.architecture, "machine": known.to_json()}
