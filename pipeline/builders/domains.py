"""The domains of a cluster's machines with their kernels' command lines, which the model of domains does not know."""

from __future__ import annotations

from pipeline.builders import layout
from pipeline.description import Cluster, Host, Machine
from pipeline.guests.cmdline import OPTIONS
from pipeline.hypervisor import domain
from pipeline.hypervisor.domain import Domain


def of(cluster: Cluster, host: Host) -> dict[str, Domain]:
    """All domains by the names of their files: one a machine, on Xen a netboot domain for each compute node as well."""
    domains = {machine.name: domain.of(cluster, machine, host, _arguments(cluster, machine))
               for machine in cluster.machines}
    if host.hypervisor == "xen":
        domains |= {f"{node.name}-netboot": netboot(cluster, node, host) for node in cluster.nodes}
    return domains


def netboot(cluster: Cluster, node: Machine, host: Host) -> Domain:
    """The domain that installs a compute node; its first card is the one that DHCP answers."""
    return domain.netboot(cluster, node, host, f"BOOTIF={node.interfaces[0].mac} {OPTIONS}")


def _arguments(cluster: Cluster, machine: Machine) -> str:
    """As the boot menu on the machine's disk has it."""
    return f"root=UUID={layout.of(cluster.name, machine).uuid_of('/')} rw {OPTIONS}"
