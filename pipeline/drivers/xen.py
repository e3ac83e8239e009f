"""Xen: the domain of a machine, the one that installs it, and their definitions.

Nothing boots from the network by itself there: that is what netboot domains are for.  xenconsoled keeps what a machine
writes to its console, and that is its report channel as well.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

from pipeline.description import Machine, Virtualization
from pipeline.drivers import driver
from pipeline.drivers.domain import Accelerator, Disk, Domain, Interface, Kernel
from pipeline.drivers.driver import Driver
from pipeline.drivers.elements import text
from pipeline.drivers.site import Site

#: Page tables and rings.
_BESIDES_MIB = 16
#: libvirt's words: type and machine of `<os>`.
_SYSTEMS: dict[Virtualization, tuple[str, str]] = {
    "pv": ("linux", "xenpv"),
    "pvh": ("xenpvh", "xenpvh"),
    "hvm": ("hvm", "xenfv"),
}


def _complete(domain: Domain, machine: Machine, site: Site, arguments: str) -> Domain:
    paravirtualised = machine.virtualization != "hvm"
    kernel = None
    if paravirtualised and machine.boot == "kernel":
        kernel = Kernel(f"{site.folder}/boot/kernel", f"{site.folder}/boot/initrd.img", arguments)
    root = Disk(machine.device or site.disk(machine.name), "raw", "xvda", serial="root", boot=1)
    return dataclasses.replace(
        domain,
        disks=driver.disks(machine, root, site),
        interfaces=tuple(Interface(site.bridge(card.network), card.mac) for card in machine.interfaces),
        kernel=kernel,
        hypervisor="xen",
        virtualization=machine.virtualization,
        bootloader="pygrub" if paravirtualised and machine.boot == "pygrub" else "",
        pci=machine.pci,
    )


def _installer(node: Domain, site: Site, arguments: str) -> Domain:
    """The node's own domain but for its kernel: a netboot domain.

    It has the node's name and identifier, so the two never run at once, and it never runs twice in a row.  It gets
    none of the node's PCI devices, for which the installer has no drivers, and none of its disks for data.
    """
    kernel = Kernel(f"{site.folder}/boot/netboot-kernel", f"{site.folder}/boot/netboot-initrd.img", arguments)
    return dataclasses.replace(node, disks=node.disks[:1], kernel=kernel, bootloader="", pci=(), on_reboot="destroy")


def _fill(root: ET.Element, domain: Domain, architecture: str) -> None:
    """Add how `domain` boots and which devices it has."""
    if domain.bootloader:
        text(root, "bootloader", domain.bootloader)
    kind, machine = _SYSTEMS[domain.virtualization]
    system = ET.SubElement(root, "os")
    text(system, "type", kind, arch=architecture, machine=machine)
    if domain.kernel is not None:
        text(system, "kernel", domain.kernel.image)
        text(system, "initrd", domain.kernel.ramdisk)
        text(system, "cmdline", domain.kernel.arguments)
    elif not domain.bootloader:
        ET.SubElement(system, "boot", dev="hd")
    if domain.virtualization == "hvm":
        features = ET.SubElement(root, "features")
        for name in ("acpi", "apic", "pae"):
            ET.SubElement(features, name)
    ET.SubElement(root, "clock", offset="utc")
    text(root, "on_poweroff", "destroy")
    text(root, "on_reboot", domain.on_reboot)
    text(root, "on_crash", "destroy")
    devices = ET.SubElement(root, "devices")
    for disk in domain.disks:
        _disk(devices, disk)
    for interface in domain.interfaces:
        _interface(devices, interface)
    _console(devices, domain)
    for address in domain.pci:
        _pci(devices, address)


def _disk(devices: ET.Element, disk: Disk) -> None:
    # blkback takes files as it takes devices, through a loop device; for libvirt both then are of type "block"
    raw = disk.format == "raw"
    element = ET.SubElement(devices, "disk", type="block" if raw else "file", device="disk")
    if raw:
        ET.SubElement(element, "driver", name="phy")
        ET.SubElement(element, "source", dev=disk.path)
    else:
        ET.SubElement(element, "driver", name="qemu", type=disk.format)
        ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=disk.target, bus="xen")
    if disk.readonly:
        ET.SubElement(element, "readonly")


def _interface(devices: ET.Element, interface: Interface) -> None:
    element = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(element, "mac", address=interface.mac)
    ET.SubElement(element, "source", bridge=interface.bridge)


def _console(devices: ET.Element, domain: Domain) -> None:
    if domain.virtualization == "hvm":
        serial = ET.SubElement(devices, "serial", type="pty")
        ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial" if domain.virtualization == "hvm" else "xen", port="0")


def _pci(devices: ET.Element, address: str) -> None:
    segment, bus, rest = address.split(":")
    slot, _, function = rest.partition(".")
    element = ET.SubElement(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
    source = ET.SubElement(element, "source")
    ET.SubElement(source, "address", domain=f"0x{segment}", bus=f"0x{bus}", slot=f"0x{slot}", function=f"0x{function}")


def _adjust(_root: ET.Element, _ours: ET.Element, _accelerator: Accelerator) -> None:
    """Nothing: Xen is Xen wherever it runs."""


DRIVER = Driver(
    "xen",
    {"xen"},
    _complete,
    _installer,
    _fill,
    _adjust,
    None,
    _BESIDES_MIB,
    netboots=False,
    takes_devices=True,
    reports=False,
    has_kernel=True,
)
