"""QEMU: the domain of a machine, and its definition.

A machine boots from its disk only; one that is to be installed from its first card only, by the card's own boot program
and DHCP, whatever its disk holds.
"""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Literal

from pipeline.description import Devices, Machine
from pipeline.drivers import driver
from pipeline.drivers.domain import Accelerator, Disk, Domain, Interface
from pipeline.drivers.driver import Driver
from pipeline.drivers.elements import child, text
from pipeline.drivers.site import Site

REPORT_CHANNEL = "org.xen-oscar.report"

#: Of each kind of devices the first disk's name, the bus that disks are on, and the network card.
_FIRST_DISK: dict[Devices, str] = {"virtio": "vda", "pc": "hda"}
_BUS: dict[Devices, str] = {"virtio": "virtio", "pc": "ide"}
_CARD: dict[Devices, str] = {"virtio": "virtio", "pc": "e1000"}

#: What the process takes beside its machine's memory when it emulates (measured: 113 to 116 MiB, 64 of them code).
_BESIDES_MIB = 116
#: Enough for the code that a small Linux runs; QEMU's own choice would let each machine grow far beyond its memory.
_TB_CACHE_MIB = 64
#: The code of several machines goes through the processors of one that runs a hypervisor.
_NESTED_TB_CACHE_MIB = 1024
#: A hypervisor wants the fullest model that is emulated, but for what does harm there (Xen 4.17 in QEMU 7.2): with
#: SMAP Xen's dom0 dies at once, with AVX or XSAVE memory was seen to be silently corrupted, RDTSCP ends hardware
#: virtualised machines, and with ERMS everybody copies memory byte by byte, of which each is emulated by itself.
_NESTED_WITHOUT = ("smap", "smep", "xsave", "xsaveopt", "avx", "avx2", "fma", "f16c", "pku", "la57", "rdtscp", "erms")


def _complete(domain: Domain, machine: Machine, site: Site, _arguments: str) -> Domain:
    """Its kernel is on its disk, or comes over the network."""
    format: Literal["qcow2", "raw"] = "qcow2" if site.overlays else "raw"
    root = Disk(site.disk(machine.name), format, _FIRST_DISK[machine.devices], serial="root", boot=1)
    return dataclasses.replace(
        domain,
        devices=machine.devices,
        disks=driver.disks(machine, root, site),
        interfaces=tuple(Interface(site.bridge(card.network), card.mac) for card in machine.interfaces),
        console=f"{site.folder}/console/{machine.name}.log",
        report=f"{site.folder}/report/{machine.name}",
    )


def _installer(node: Domain, _site: Site, _arguments: str) -> Domain:
    """It gets none of the node's disks for data: the installer could not harm them if it wanted to.  What is installed
    has no say in which devices the installer has."""
    first, *others = node.interfaces
    return dataclasses.replace(
        node,
        devices="virtio",
        disks=(dataclasses.replace(node.disks[0], target=_FIRST_DISK["virtio"], boot=0),),
        interfaces=(dataclasses.replace(first, boot=1), *others),
    )


def _fill(root: ET.Element, domain: Domain, architecture: str) -> None:
    """Add how `domain` boots under QEMU and which devices it has."""
    if not domain.nested:
        # memory that can be copied while the machine is held, and is nobody's when QEMU ends: a file without a name
        backing = ET.SubElement(root, "memoryBacking")
        ET.SubElement(backing, "source", type="memfd")
        ET.SubElement(backing, "access", mode="shared")
    _operating_system(root, domain, architecture)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(root, "cpu")
    ET.SubElement(root, "clock", offset="utc")
    text(root, "on_poweroff", "destroy")
    text(root, "on_reboot", "restart")
    text(root, "on_crash", "destroy")
    devices = ET.SubElement(root, "devices")
    for disk in domain.disks:
        _disk(devices, disk, domain.devices)
    ET.SubElement(devices, "controller", type="usb", model="none")
    if domain.nested:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for interface in domain.interfaces:
        _interface(devices, interface, domain.devices)
    _console(devices, domain)
    # so that memory can be taken from a machine that runs, and given back.  Processors can't: libvirt 9.0 does not hear
    # of it when QEMU 7.2 has taken one, and never gives it back
    changes = domain.devices == "virtio" and not domain.nested
    ET.SubElement(devices, "memballoon", model="virtio" if changes else "none")
    if domain.devices == "virtio":
        rng = ET.SubElement(devices, "rng", model="virtio")
        text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "panic", model="isa")


def _operating_system(root: ET.Element, domain: Domain, architecture: str) -> None:
    system = ET.SubElement(root, "os")
    text(system, "type", "hvm", arch=architecture, machine="pc")
    if domain.kernel is not None:
        text(system, "kernel", domain.kernel.image)
        text(system, "initrd", domain.kernel.ramdisk)
        text(system, "cmdline", domain.kernel.arguments)
    # the firmware's and the network boot's messages too are worth having when a machine finds nothing to boot
    ET.SubElement(system, "bios", useserial="yes")


def _disk(devices: ET.Element, disk: Disk, kind: Devices) -> None:
    # nothing but a CD is read-only to IDE
    cd = kind == "pc" and disk.readonly
    element = ET.SubElement(devices, "disk", type="file", device="cdrom" if cd else "disk")
    # most disks are throwaways or read-only: nothing on them has to survive a crash of the host
    cache = "writeback" if disk.lasts else "unsafe"
    ET.SubElement(element, "driver", name="qemu", type=disk.format, cache=cache, discard="unmap")
    ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=disk.target, bus=_BUS[kind])
    if disk.readonly:
        ET.SubElement(element, "readonly")
    text(element, "serial", disk.serial)
    _boot(element, disk.boot)


def _interface(devices: ET.Element, interface: Interface, kind: Devices) -> None:
    element = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(element, "mac", address=interface.mac)
    ET.SubElement(element, "source", bridge=interface.bridge)
    ET.SubElement(element, "model", type=_CARD[kind])
    _boot(element, interface.boot)
    if not interface.boot:
        ET.SubElement(element, "rom", enabled="no")  # loading a network boot program that is never used takes time


def _console(devices: ET.Element, domain: Domain) -> None:
    # a terminal that one can attach to, and a log of all that passes through whether or not anybody does
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=domain.console, append="on")
    ET.SubElement(serial, "target", port="0")
    # a file and not a socket: a socket without a reader would stop the machine's write
    if domain.devices == "virtio":
        channel = ET.SubElement(devices, "channel", type="file")
        ET.SubElement(channel, "source", path=domain.report)
        ET.SubElement(channel, "target", type="virtio", name=REPORT_CHANNEL)
    else:
        channel = ET.SubElement(devices, "serial", type="file")
        ET.SubElement(channel, "source", path=domain.report)
        ET.SubElement(channel, "target", port="1")


def _adjust(root: ET.Element, ours: ET.Element, accelerator: Accelerator) -> None:
    """Set type, processor and what emulation needs, whatever stood there before."""
    root.set("type", "kvm" if accelerator == "kvm" else "qemu")
    ours.set("accelerator", accelerator)
    features = child(root, "features")
    for element in features.findall("tcg"):
        features.remove(element)
    cpu = child(root, "cpu")
    cpu.clear()
    if accelerator == "kvm":
        cpu.set("mode", "host-passthrough")
        cpu.set("check", "none")
    else:
        nested = ours.get("nested") == "yes"
        cpu.set("mode", "maximum" if nested else "custom")
        if not nested:
            # a plain model: emulating more features makes a machine slower, not faster
            cpu.set("match", "exact")
            text(cpu, "model", "qemu64", fallback="forbid")
        cpu.set("check", "none")
        # Linux 6.12 double-faults around cmpxchg16b in QEMU 7.2's emulation: 3 of 25 boots with it, 0 of 85 without
        for name in _NESTED_WITHOUT if nested else ("cx16",):
            ET.SubElement(cpu, "feature", policy="disable", name=name)
        cache = _NESTED_TB_CACHE_MIB if nested else _TB_CACHE_MIB
        text(ET.SubElement(features, "tcg"), "tb-cache", str(cache), unit="MiB")


def _boot(parent: ET.Element, order: int) -> None:
    if order:
        ET.SubElement(parent, "boot", order=str(order))


def _restored(definition: str) -> str:
    """So that what the machine has reported stays: QEMU would begin a new file.

    And what a copy of a frozen machine had while it waited for its state is no more (`drivers.thawed`).
    """
    root = ET.fromstring(definition)
    for line in root.findall("{http://libvirt.org/schemas/domain/qemu/1.0}commandline"):
        root.remove(line)
    for channel in root.iterfind("devices/channel[@type='pipe']"):
        channel.set("type", "file")
    for kind in ("channel", "serial"):
        for source in root.iterfind(f"devices/{kind}[@type='file']/source"):
            source.set("append", "on")
    return ET.tostring(root, encoding="unicode")


DRIVER = Driver(
    "qemu",
    {"qemu", "kvm"},
    _complete,
    _installer,
    _fill,
    _adjust,
    _restored,
    _BESIDES_MIB,
    netboots=True,
    takes_devices=False,
    reports=True,
    has_kernel=False,
)
