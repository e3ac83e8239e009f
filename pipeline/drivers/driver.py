"""What a driver answers: how the machines of a cluster are told to one engine, as libvirt has it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Set
from dataclasses import dataclass

from pipeline.description import Hypervisor, Machine
from pipeline.drivers.domain import Accelerator, Disk, Domain
from pipeline.drivers.site import Site


@dataclass(frozen=True)
class Driver:
    """One engine, as a row of `engines.DRIVERS`.

    `types` are libvirt's words for its domains.  `complete` makes of a bare domain the one that the machine runs as: by
    the site of its cluster, and with the command line of its kernel where that comes from outside.  `installer` makes
    of that the domain which installs the machine, whatever its disk holds: one that boots by network, or where engines
    can't (`netboots` is false) one that is given the installer's kernel, with that command line.
    `fill` adds to a definition how a domain boots and which devices it has, `adjust` what depends on where it is
    started (the accelerator; our element of the metadata is handed in, too).  `restored` is the definition with which a
    machine comes back, from the one in the file of its memory; None = that one as it is.

    `besides_mib` is what a machine takes of its host's memory besides its own.  `takes_devices`: it may have a block
    device or PCI devices of its host's.  `reports`: it has a report channel beside its console; without, its reports
    are lines of that.  `has_kernel`: the kernel of its host serves machines alone, and what that says concerns them.
    """

    name: Hypervisor
    types: Set[str]
    complete: Callable[[Domain, Machine, Site, str], Domain]
    installer: Callable[[Domain, Site, str], Domain]
    fill: Callable[[ET.Element, Domain, str], None]
    adjust: Callable[[ET.Element, ET.Element, Accelerator], None]
    restored: Callable[[str], str] | None
    besides_mib: int
    netboots: bool
    takes_devices: bool
    reports: bool
    has_kernel: bool


def disks(machine: Machine, root: Disk, site: Site) -> tuple[Disk, ...]:
    """The machine's own disk; for a head node the SIS image and its identity as well; and those for data."""
    data = {disk.name: disk for disk in machine.disks}
    found = [root]
    for name, letter in list(machine.letters.items())[1:]:
        target = f"{root.target[:-1]}{letter}"
        if name in data:
            path, lasts = site.data(machine.name, name), data[name].kind == "kept"
            found.append(Disk(path, "raw", target, serial=name, lasts=lasts, size_mib=data[name].size_mib))
        elif name == "sis":  # an artifact, as machines' own disks are
            found.append(Disk(site.disk(name), "qcow2" if site.overlays else "raw", target, serial=name, readonly=True))
        else:
            found.append(Disk(site.given(name), "raw", target, serial=name, readonly=True))
    return tuple(found)
