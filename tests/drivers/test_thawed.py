"""The definition of a copy of a frozen machine."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pipeline.drivers import libvirt_xml, thawed
from pipeline.drivers.qemu import DRIVER
from tests.drivers.test_libvirt_xml import model

DEFINITION = libvirt_xml.render(model("node1"))


def without(definition: str, *paths: str) -> list[str]:
    """The definition's lines, but for those elements."""
    root = ET.fromstring(definition)
    for path in paths:
        found = root.find(path)
        assert found is not None, path
        found.clear()
    return ET.tostring(root, encoding="unicode").split(">")


def test_a_copy_has_another_name_and_is_else_what_the_machine_was() -> None:
    made = thawed.of_copy(DEFINITION, "one-1")
    told = libvirt_xml.read_metadata(made)
    assert (libvirt_xml.name_in(made), told.cluster, told.node) == ("one-1-node1", "one-1", "node1")
    assert ET.fromstring(made).findtext("uuid") not in (None, ET.fromstring(DEFINITION).findtext("uuid"))
    own = ("name", "uuid", "metadata")
    assert without(made, *own) == without(DEFINITION, *own)


def test_one_that_waits_for_its_state_never_writes_the_memory_that_was_frozen() -> None:
    root = ET.fromstring(thawed.awaiting(DEFINITION))
    assert root.find("memoryBacking/source").attrib == {"type": "file"}  # type: ignore[union-attr]
    assert root.find("memoryBacking/access").attrib == {"mode": "private"}  # type: ignore[union-attr]
    words = [each.attrib["value"] for each in root.iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    assert words == ["-incoming", "defer"]
    assert root.find("devices/channel").attrib == {"type": "pipe"}  # type: ignore[union-attr]


def test_a_copy_whose_memory_was_saved_comes_back_without_waiting() -> None:
    assert DRIVER.restored is not None
    root = ET.fromstring(DRIVER.restored(thawed.awaiting(DEFINITION)))
    assert root.find("{http://libvirt.org/schemas/domain/qemu/1.0}commandline") is None
    channel = root.find("devices/channel")
    assert channel is not None and channel.attrib == {"type": "file"}
    assert channel.find("source").attrib["append"] == "on"  # type: ignore[union-attr]


def test_what_a_machine_is_to_its_engine_is_told() -> None:
    assert thawed.kind(DEFINITION) == {"machine": "pc", "processor": "qemu64", "memory": "384 MiB"}


def test_memory_is_where_libvirt_looks_for_it() -> None:
    assert thawed.memory_file("a-cluster-of-a-long-name-node1", 3) == "libvirt/qemu/3-a-cluster-of-a-long-/pc.ram"
