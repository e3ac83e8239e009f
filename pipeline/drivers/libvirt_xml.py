"""The domain model as libvirt XML: what all drivers have in common; they add devices, and how a machine boots.

Elements are written in one fixed order, so equal domains give equal bytes.  What depends on the host that a machine
starts on (accelerator, artifacts) is set by one function, which also adjusts a definition made earlier: the artifact
names no host, and the machine that runs is still the one that the artifact describes.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.description import Role
from pipeline.drivers import engines
from pipeline.drivers.domain import Accelerator, Domain
from pipeline.drivers.elements import child, text

#: The XML namespace of what we keep in a domain's metadata.
NAMESPACE = "urn:xen-oscar:domain:1"
_ARCHITECTURES = {"amd64": "x86_64"}

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
    text(root, "name", domain.name)
    text(root, "uuid", domain.uuid)
    metadata = ET.SubElement(root, "metadata")
    machine = ET.SubElement(
        metadata, f"{{{NAMESPACE}}}machine", cluster=domain.cluster, node=domain.node, role=domain.role
    )
    if domain.nested:
        machine.set("nested", "yes")
    sizes = {disk.serial: disk.size_mib for disk in domain.disks if disk.size_mib}
    if sizes:  # libvirt need not know; but a machine with a larger disk is defined anew, and so started anew
        machine.set("data", ", ".join(f"{name} {mib} MiB" for name, mib in sizes.items()))
    text(root, "memory", str(domain.memory_mib), unit="MiB")
    text(root, "vcpu", str(domain.vcpus))
    root.set("type", domain.hypervisor)
    engines.of(domain.hypervisor).fill(root, domain, _ARCHITECTURES.get(domain.architecture, domain.architecture))
    _set_start(root, domain.accelerator, domain.artifacts)
    return _write(root)


def for_start(definition: str, accelerator: Accelerator, artifacts: Iterable[tuple[str, str]]) -> str:
    """`definition` as it is started on this host: with its accelerator (QEMU's) and the digests it is made from."""
    root = ET.fromstring(definition)
    _set_start(root, accelerator, artifacts)
    return _write(root)


def name_in(definition: str) -> str:
    """The name of the domain that `definition` defines."""
    return ET.fromstring(definition).findtext("name") or ""


def read_metadata(definition: str) -> Metadata:
    """The metadata element, as libvirt hands it out or inside of a whole definition."""
    root = ET.fromstring(definition)
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


def _set_start(root: ET.Element, accelerator: Accelerator, artifacts: Iterable[tuple[str, str]]) -> None:
    """Set all that depends on where the machine starts, whatever stood there before."""
    machine = _machine(root)
    for element in list(machine):
        machine.remove(element)
    for role, digest in artifacts:
        ET.SubElement(machine, f"{{{NAMESPACE}}}artifact", role=role, digest=digest)
    driver = engines.of_type(root.get("type", ""))
    if driver is None:
        raise ValueError(f"no domain definition of ours: type {root.get('type')!r}")
    driver.adjust(root, machine, accelerator)


def _machine(root: ET.Element) -> ET.Element:
    return child(root, f"metadata/{{{NAMESPACE}}}machine")


def _write(root: ET.Element) -> str:
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"
