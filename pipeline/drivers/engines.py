"""The drivers that there are, by the name of their engine."""

from __future__ import annotations

from pipeline.description import Hypervisor, Machine
from pipeline.drivers import domain, qemu, xen
from pipeline.drivers.domain import Domain
from pipeline.drivers.driver import Driver
from pipeline.drivers.site import Site

DRIVERS: dict[Hypervisor, Driver] = {driver.name: driver for driver in (qemu.DRIVER, xen.DRIVER)}


def of(hypervisor: Hypervisor) -> Driver:
    return DRIVERS[hypervisor]


def of_type(word: str) -> Driver | None:
    """The driver of domains of a type that libvirt calls so; None for none of ours (libvirt's test driver)."""
    return next((driver for driver in DRIVERS.values() if word in driver.types), None)


def domain_of(
    cluster: str, architecture: str, machine: Machine, site: Site, hypervisor: Hypervisor = "qemu", arguments: str = ""
) -> Domain:
    """The domain that a machine of the cluster of that name runs as.

    `arguments` is the command line of its kernel where that comes from outside, which a driver may want.
    """
    return of(hypervisor).complete(domain.of(cluster, architecture, machine), machine, site, arguments)
