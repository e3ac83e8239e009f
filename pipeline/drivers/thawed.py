"""The definition of a machine of QEMU's that was frozen, for a copy of it: of another name, and to be given a state.

What the guest sees stays as it was, or the state would not fit: devices and their places, processor, memory.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping

from pipeline.drivers import libvirt_xml
from pipeline.drivers.domain import name_of, uuid_of
from pipeline.drivers.elements import child

_QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
#: What libvirt calls the memory of a machine of type pc, and how much of a machine's name is in a folder's.
_RAM, _SHORT = "pc.ram", 20

ET.register_namespace("qemu", _QEMU)


def of_copy(definition: str, copy: str) -> str:
    """A definition as libvirt has filled it in, for the machine of that name of a copy of its cluster."""
    root = ET.fromstring(definition)
    machine = child(root, f"metadata/{{{libvirt_xml.NAMESPACE}}}machine")
    machine.set("cluster", copy)
    child(root, "name").text = name_of(copy, machine.attrib["node"])
    child(root, "uuid").text = uuid_of(copy, machine.attrib["node"])
    return ET.tostring(root, encoding="unicode")


def awaiting(definition: str) -> str:
    """The definition with which that machine waits for its state.  Its memory is a file (`memory_file`) that is read
    and never written, and one can speak to it through its report channel, which is a pair of pipes then."""
    root = ET.fromstring(definition)
    backing = child(root, "memoryBacking")
    child(backing, "source").set("type", "file")
    child(backing, "access").set("mode", "private")
    child(root, "devices/channel[@type='file']").set("type", "pipe")
    line = ET.SubElement(root, f"{{{_QEMU}}}commandline")
    for word in ("-incoming", "defer"):
        ET.SubElement(line, f"{{{_QEMU}}}arg", value=word)
    return ET.tostring(root, encoding="unicode")


def memory_file(name: str, number: int) -> str:
    """Where libvirt has the memory of a machine that is the one with that number since libvirt was started, below the
    folder that `init.sh` has told it."""
    return f"libvirt/qemu/{number}-{name[:_SHORT]}/{_RAM}"


def pipes(report: str) -> tuple[str, str]:
    """What goes into a machine's report channel while that is a pair of pipes, and what comes out."""
    return f"{report}.in", f"{report}.out"


def kind(definition: str) -> Mapping[str, str]:
    """What a machine is to QEMU, for people: its type, processor and memory."""
    root = ET.fromstring(definition)
    memory = child(root, "memory")
    return {
        "machine": child(root, "os/type").get("machine") or "",
        "processor": root.findtext("cpu/model") or child(root, "cpu").get("mode") or "",
        "memory": f"{memory.text} {memory.get('unit')}",
    }
