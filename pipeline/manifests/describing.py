"""Names, MACs and addresses of every machine of a cluster, from its manifest and its lot.

The same manifest always gives the same machines, and a compute node keeps what it has when others are added: its MAC
and its address count from its index, never from how many there are.  What clusters on one host must not share counts
from the lot (`allocation.lots`).
"""

from __future__ import annotations

import dataclasses

from pipeline import description
from pipeline.allocation import lots
from pipeline.guests import flavours
from pipeline.guests.guest import Guest
from pipeline.manifests import membership
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.distro import Distro
from pipeline.manifests.machine import MachineTable, OneMachine
from pipeline.manifests.network import Networks, NetworkTable, PrivateNetwork, PublicNetwork

#: What says of a network which addresses it has.
_ADDRESSES = frozenset(("cidr", "host", "head", "first_node"))


def describe(
    cluster: Cluster, distro: Distro, secrets: tuple[description.Secret, ...] = (), lot: int = 0
) -> description.Cluster:
    """The cluster with everything given out; `secrets` are those of its OPKGs."""
    public, private = _subnets(cluster.networks, lot)
    guest = guest_of(cluster, distro)
    vsyscall = distro.vsyscall and bool(cluster.kernel_from)
    head = _machine(
        cluster,
        guest,
        vsyscall,
        cluster.head.name,
        "head",
        0,
        cluster.head,
        _interface("eth0", "public", public, lot, 0, public.head_address),
        _interface("eth1", "private", private, lot, 0, private.head_address),
    )
    nodes = tuple(
        _machine(
            cluster,
            guest,
            vsyscall,
            name,
            group.membership,
            number,
            group.table,
            _interface("eth0", "private", private, lot, group.mac_index(number, private), str(group.address(number))),
        )
        for group in membership.groups(cluster.compute, cluster.memberships, private)
        for number, name in enumerate(group.names(), 1)
    )
    return description.Cluster(
        name=cluster.name,
        distro=distro.name,
        architecture=distro.hardware,
        domain=cluster.domain,
        host=cluster.host,
        networks=(
            description.Network("public", public.cidr, public.host_address),
            description.Network("private", private.cidr, private.host_address),
        ),
        head=head,
        nodes=nodes,
        opkgs=cluster.opkgs,
        guest=distro.guest,
        secrets=secrets,
    )


def guest_of(cluster: Cluster, distro: Distro) -> Guest:
    """The flavour of its machines' system, by the kernel that they boot."""
    guest = flavours.of(distro.guest)
    return guest.with_another_kernel() if cluster.kernel_from else guest


def _machine(
    cluster: Cluster,
    guest: Guest,
    vsyscall: bool,
    name: str,
    kind: str,
    index: int,
    table: MachineTable,
    *interfaces: description.Interface,
) -> description.Machine:
    virtualization, boot, device, pci = cluster.xen.of(name)
    own = cluster.machines.get(name, OneMachine())
    return description.Machine(
        name=name,
        membership=kind,
        index=index,
        memory_mib=own.memory or table.memory,
        cpus=own.cpus or table.cpus,
        disk_mib=table.disk_mib,
        filesystems=tuple(
            description.FileSystem(item.mount, item.size, "swap" if item.mount == "swap" else guest.filesystem)
            for item in table.filesystems
        ),
        interfaces=tuple(dataclasses.replace(card, mac=own.mac or card.mac) for card in interfaces),
        disks=tuple(
            description.DataDisk(disk, item.size, item.kind) for disk, item in {**table.disks, **own.disks}.items()
        ),
        devices=guest.devices,
        by_label=guest.by_label,
        vsyscall=vsyscall,
        virtualization=virtualization,
        boot=boot,
        device=device,
        pci=pci,
    )


def _subnets(networks: Networks, lot: int) -> tuple[PublicNetwork, PrivateNetwork]:
    """The tables, with the lot's subnets where nothing else is said: the other of them where what is said for the other
    network has the one."""
    public, private = networks.public, networks.private
    said_private = bool(private.model_fields_set & _ADDRESSES)
    if not public.model_fields_set & _ADDRESSES:
        own = [public.model_copy(update={"cidr": lots.subnet(lot, name)}) for name in ("public", "private")]
        free = [one for one in own if not (said_private and one.subnet.overlaps(private.subnet))]
        public = next(iter(free), public)
    if not said_private:
        mine = [private.model_copy(update={"cidr": lots.subnet(lot, name)}) for name in ("private", "public")]
        private = next((one for one in mine if not one.subnet.overlaps(public.subnet)), private)
    return public, private


def _interface(
    name: str, network: str, table: NetworkTable, lot: int, index: int, address: str
) -> description.Interface:
    mac = lots.mac(table.mac_prefix, lot, network, index)
    return description.Interface(name, network, mac, address, table.subnet.prefixlen)
