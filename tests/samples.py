"""A small cluster as the hypervisor's tests need it."""

from __future__ import annotations

from pipeline.description import Cluster, FileSystem, Interface, Machine, Network


def machine(index: int, *, memory_mib: int = 384) -> Machine:
    """The head node (0) or a compute node."""
    head = index == 0
    cards = [Interface("eth1" if head else "eth0", "private", f"52:54:00:00:00:{index:02x}", f"10.5.0.{index + 1}", 24)]
    if head:
        cards.insert(0, Interface("eth0", "public", "52:54:00:00:01:00", "10.4.0.2", 24))
    return Machine(
        "head" if head else f"node{index}",
        "head" if head else "compute",
        index,
        memory_mib,
        1,
        64,
        (FileSystem("/", 0, "ext4"),),
        tuple(cards),
    )


def cluster(name: str, *, memory_mib: int = 384) -> Cluster:
    """A head node and two compute nodes on two networks."""
    return Cluster(
        name,
        "debian12",
        "amd64",
        "test",
        "local",
        (Network("public", "10.4.0.0/24", "10.4.0.1"), Network("private", "10.5.0.0/24", "")),
        machine(0, memory_mib=memory_mib),
        (machine(1, memory_mib=memory_mib), machine(2, memory_mib=memory_mib)),
        (),
        "debian",
    )
