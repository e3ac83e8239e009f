"""A machine's domains with their kernels' command lines, which the model of domains does not know."""

from __future__ import annotations

from pipeline.builders import layout
from pipeline.description import Hypervisor, Machine
from pipeline.drivers import engines
from pipeline.drivers.domain import Domain
from pipeline.drivers.site import Site
from pipeline.guests.cmdline import OPTIONS


def of(cluster: str, architecture: str, machine: Machine, hypervisor: Hypervisor, site: Site) -> dict[str, Domain]:
    """By the names of their files: "domain", and "netboot" where another one installs a compute node.

    A netboot domain's first card is the one that DHCP answers.
    """
    arguments = f"root=UUID={layout.of(machine).uuid_of('/')} rw {OPTIONS}"  # as the boot menu on its disk has it
    own = engines.domain_of(cluster, architecture, machine, site, hypervisor, arguments)
    installer = engines.of(hypervisor).installer
    if installer is None or machine.role == "head":
        return {"domain": own}
    return {"domain": own, "netboot": installer(own, site, f"BOOTIF={machine.interfaces[0].mac} {OPTIONS}")}
