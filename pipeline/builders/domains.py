"""A machine's domains by purpose, with their kernels' command lines, which the model of domains does not know."""

from __future__ import annotations

from pipeline.builders import layout
from pipeline.description import Hypervisor, Machine
from pipeline.drivers import engines
from pipeline.drivers.domain import Domain, Purpose
from pipeline.drivers.site import Site
from pipeline.guests import cmdline


def of(cluster: str, architecture: str, machine: Machine, hypervisor: Hypervisor, site: Site) -> dict[Purpose, Domain]:
    """The domain that a machine runs as, and for a compute node the one that installs it.

    An installing domain's first card is the one that DHCP answers.
    """
    root = f"UUID={layout.of(machine).uuid_of('/')}"
    arguments = cmdline.of(root, vsyscall=machine.vsyscall)  # as the boot menu on its disk has it
    own = engines.domain_of(cluster, architecture, machine, site, hypervisor, arguments)
    if machine.role == "head":
        return {"run": own}
    installer = engines.of(hypervisor).installer
    return {"run": own, "install": installer(own, site, f"BOOTIF={machine.interfaces[0].mac} {cmdline.OPTIONS}")}
