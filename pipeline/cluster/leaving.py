"""Nodes that a recipe no longer has leave the cluster at once: they end as the next run of it would end them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.cluster.lifecycle import Lifecycle


def machines_of(disks: Sequence[str], machines: Collection[str]) -> list[str]:
    """Of disks that are kept, MACHINE.NAME, those of these machines."""
    return [disk for disk in disks if disk.rpartition(".")[0] in machines]


def leave(life: Lifecycle, nodes: Sequence[str]) -> bool:
    """End these, if the cluster runs, with their disks but for those that are kept; whether it does."""
    with life.runner.alone():
        if life.runner.place.find() is None:
            return False
        life.runner.take_away(nodes)
        return True


def discard(life: Lifecycle, disks: Sequence[str]) -> None:
    """Remove kept disks of nodes that have left."""
    with life.runner.alone():
        life.runner.place.discard(disks)
