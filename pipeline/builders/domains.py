"""A machine's domains with their kernels' command lines, which the model of domains does not know."""

from __future__ import annotations

from pipeline.builders import layout
from pipeline.description import Hypervisor, Machine
from pipeline.guests.cmdline import OPTIONS
from pipeline.hypervisor import domain
from pipeline.hypervisor.domain import Domain


def of(cluster: str, architecture: str, machine: Machine, hypervisor: Hypervisor) -> dict[str, Domain]:
    """By the names of their files: "domain", and on Xen "netboot" for a compute node, which installs it.

    A netboot domain's first card is the one that DHCP answers.
    """
    arguments = f"root=UUID={layout.of(machine).uuid_of('/')} rw {OPTIONS}"  # as the boot menu on its disk has it
    own = domain.of(cluster, architecture, machine, hypervisor, arguments)
    if hypervisor != "xen" or machine.role == "head":
        return {"domain": own}
    return {"domain": own,
            "netboot": domain.netboot(own, f"BOOTIF={machine.interfaces[0].mac} {OPTIONS}")}
