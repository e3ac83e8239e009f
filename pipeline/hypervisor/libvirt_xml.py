"""The domain model as libvirt XML: for QEMU here, for Xen in `xen_xml`.

Elements are written in one fixed order, so equal domains give equal bytes.  What depends on the host that a machine
starts on (accelerator, artifacts) is set by one function, which also adjusts a definition made earlier: the artifact
names no host, and the machine that runs is still the one that the artifact describes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.description import Role
from pipeline.hypervisor import xen_xml
from pipeline.hypervisor.domain import Accelerator, Disk, Domain, Interface
from pipeline.hypervisor.elements import text as _text

#: The XML namespace of what we keep in a domain's metadata.
NAMESPACE = "urn:xen-oscar:domain:1"
REPORT_CHANNEL = "org.xen-oscar.report"

#: Enough for the code that a small Linux runs; QEMU's own choice would let each machine grow far beyond its memory.
_TB_CACHE_MIB = 64
#: The code of several machines goes through the processors of one that runs a hypervisor.
_NESTED_TB_CACHE_MIB = 1024
#: A hypervisor wants the fullest model that is emulated, but for what does harm there (Xen 4.17 in QEMU 7.2): with
#: SMAP Xen's dom0 dies at once, with AVX or XSAVE memory was seen to be silently corrupted, RDTSCP ends hardware
#: virtualised machines, and with ERMS everybody copies memory byte by byte, of which each is emulated by itself.
_NESTED_WITHOUT = ("smap", "smep", "xsave", "xsaveopt", "avx", "avx2", "fma", "f16c", "pku", "la57", "rdtscp", "erms")
_ARCHITECTURES = {"amd64": "x86_64", "i386": "i686"}

ET.register_namespace("xo", NAMESPACE)


@dataclass(frozen=True)
class Metadata:
    """What a running domain says about itself."""

    cluster: str
    node: str
    role: Role
    accelerator: Accelerator
    artifacts: tuple[tuple[str, str], ...]


def render(domain: Domain) -> str:
    """The definition of `domain`, for whichever hypervisor it is."""
    root = ET.Element("domain")
    _text(root, "name", domain.name)
    _text(root, "uuid", domain.uuid)
    metadata = ET.SubElement(root, "metadata")
    machine = ET.SubElement(metadata, f"{{{NAMESPACE}}}machine", cluster=domain.cluster, node=domain.node,
                            role=domain.role)
    if domain.nested:
        machine.set("nested", "yes")
    _text(root, "memory", str(domain.memory_mib), unit="MiB")
    _text(root, "vcpu", str(domain.vcpus))
    if domain.hypervisor == "xen":
        xen_xml.fill(root, domain, _ARCHITECTURES.get(domain.architecture, domain.architecture))
    else:
        _fill(root, domain)
    _set_start(root, domain.accelerator, domain.artifacts)
    return _write(root)


def for_start(definition: str, accelerator: Accelerator, artifacts: Iterable[tuple[str, str]]) -> str:
    """`definition` as it is started on this host: with its accelerator (QEMU's), and with the digests it is made from.
    """
    root = ET.fromstring(definition)
    _set_start(root, accelerator, artifacts)
    return _write(root)


def name_in(definition: str) -> str:
    """The name of the domain that `definition` defines."""
    return ET.fromstring(definition).findtext("name") or ""


def read_metadata(text: str) -> Metadata:
    """The metadata element, as libvirt hands it out or inside of a whole definition."""
    root = ET.fromstring(text)
    machine = root if root.tag.endswith("machine") else _machine(root)
    # libvirt drops the prefix of the element that it hands out alone, and with it the namespace of what is inside
    artifacts = [child for child in machine if child.tag.rpartition("}")[2] == "artifact"]
    return Metadata(
        cluster=machine.attrib["cluster"],
        node=machine.attrib["node"],
        role="head" if machine.attrib["role"] == "head" else "compute",
        accelerator="kvm" if machine.attrib.get("accelerator") == "kvm" else "tcg",
        artifacts=tuple((child.attrib["role"], child.attrib["digest"]) for child in artifacts),
    )


def _fill(root: ET.Element, domain: Domain) -> None:
    """Add how `domain` boots under QEMU and which devices it has."""
    _operating_system(root, domain)
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    ET.SubElement(root, "cpu")
    ET.SubElement(root, "clock", offset="utc")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")
    devices = ET.SubElement(root, "devices")
    for disk in domain.disks:
        _disk(devices, disk)
    ET.SubElement(devices, "controller", type="usb", model="none")
    if domain.nested:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    for interface in domain.interfaces:
        _interface(devices, interface)
    _console(devices, domain)
    ET.SubElement(devices, "memballoon", model="none")
    rng = ET.SubElement(devices, "rng", model="virtio")
    _text(rng, "backend", "/dev/urandom", model="random")
    ET.SubElement(devices, "panic", model="isa")


def _operating_system(root: ET.Element, domain: Domain) -> None:
    system = ET.SubElement(root, "os")
    _text(system, "type", "hvm", arch=_ARCHITECTURES.get(domain.architecture, domain.architecture), machine="pc")
    if domain.kernel is not None:
        _text(system, "kernel", domain.kernel.image)
        _text(system, "initrd", domain.kernel.ramdisk)
        _text(system, "cmdline", domain.kernel.arguments)
    # the firmware's and the network boot's messages too are worth having when a machine finds nothing to boot
    ET.SubElement(system, "bios", useserial="yes")


def _disk(devices: ET.Element, disk: Disk) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    # every disk is a throwaway or read-only: nothing on it has to survive a crash of the host
    ET.SubElement(element, "driver", name="qemu", type=disk.format, cache="unsafe", discard="unmap")
    ET.SubElement(element, "source", file=disk.path)
    ET.SubElement(element, "target", dev=disk.target, bus="virtio")
    if disk.readonly:
        ET.SubElement(element, "readonly")
    _text(element, "serial", disk.serial)
    _boot(element, disk.boot)


def _interface(devices: ET.Element, interface: Interface) -> None:
    element = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(element, "mac", address=interface.mac)
    ET.SubElement(element, "source", bridge=interface.bridge)
    ET.SubElement(element, "model", type="virtio")
    _boot(element, interface.boot)
    if not interface.boot:
        ET.SubElement(element, "rom", enabled="no")  # loading a network boot program that is never used takes time


def _console(devices: ET.Element, domain: Domain) -> None:
    # a terminal that one can attach to, and a log of all that passes through whether or not anybody does
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "log", file=domain.console, append="on")
    ET.SubElement(serial, "target", port="0")
    # a file and not a socket: a socket without a reader would stop the machine's write
    channel = ET.SubElement(devices, "channel", type="file")
    ET.SubElement(channel, "source", path=domain.report)
    ET.SubElement(channel, "target", type="virtio", name=REPORT_CHANNEL)


def _set_start(root: ET.Element, accelerator: Accelerator, artifacts: Iterable[tuple[str, str]]) -> None:
    """Set all that depends on where the machine starts, whatever stood there before."""
    machine = _machine(root)
    for child in list(machine):
        machine.remove(child)
    for role, digest in artifacts:
        ET.SubElement(machine, f"{{{NAMESPACE}}}artifact", role=role, digest=digest)
    if root.get("type") == "xen":
        return
    root.set("type", "kvm" if accelerator == "kvm" else "qemu")
    machine.set("accelerator", accelerator)
    features = _child(root, "features")
    for element in features.findall("tcg"):
        features.remove(element)
    cpu = _child(root, "cpu")
    cpu.clear()
    if accelerator == "kvm":
        cpu.set("mode", "host-passthrough")
        cpu.set("check", "none")
    else:
        nested = machine.get("nested") == "yes"
        cpu.set("mode", "maximum" if nested else "custom")
        if not nested:
            # a plain model: emulating more features makes a machine slower, not faster
            cpu.set("match", "exact")
            _text(cpu, "model", "qemu64", fallback="forbid")
        cpu.set("check", "none")
        # Linux 6.12 double-faults around cmpxchg16b in QEMU 7.2's emulation: 3 of 25 boots with it, 0 of 85 without
        for name in _NESTED_WITHOUT if nested else ("cx16",):
            ET.SubElement(cpu, "feature", policy="disable", name=name)
        cache = _NESTED_TB_CACHE_MIB if nested else _TB_CACHE_MIB
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(cache), unit="MiB")


def _machine(root: ET.Element) -> ET.Element:
    return _child(root, f"metadata/{{{NAMESPACE}}}machine")


def _child(root: ET.Element, path: str) -> ET.Element:
    element = root.find(path)
    if element is None:
        raise ValueError(f"no domain definition of ours: {path} is missing")
    return element


def _boot(parent: ET.Element, order: int) -> None:
    if order:
        ET.SubElement(parent, "boot", order=str(order))


def _write(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
