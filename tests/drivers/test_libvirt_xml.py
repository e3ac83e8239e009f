"""Domain definitions: against golden files, and adjusted for a start."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import cast

import pytest

from pipeline.builders import definition
from pipeline.description import Cluster, DataDisk, Hypervisor
from pipeline.drivers import domain, engines, libvirt_xml, site
from pipeline.drivers.domain import Kernel
from pipeline.step import Job, Step
from tests.samples import cluster

GOLDEN = Path(__file__).parent / "golden"


def model(name: str, of: Cluster | None = None) -> domain.Domain:
    description = of or cluster("one")
    return engines.domain_of(description.name, description.architecture, description.machine(name), site.PRIVATE)


def installer() -> domain.Domain:
    return engines.of("qemu").installer(model("node1"), site.PRIVATE, "")


@pytest.mark.parametrize(
    ("name", "made"), [("head", model("head")), ("node1", model("node1")), ("node1-install", installer())]
)
def test_golden(name: str, made: domain.Domain) -> None:
    assert libvirt_xml.render(made) == (GOLDEN / f"{name}.xml").read_text()


def test_golden_with_kvm_and_a_kernel_from_outside() -> None:
    changed = dataclasses.replace(
        model("node1"),
        accelerator="kvm",
        kernel=Kernel("/k", "/i", "console=ttyS0"),
        artifacts=(("disk", "sha256:1"), ("image", "sha256:2")),
    )
    assert libvirt_xml.render(changed) == (GOLDEN / "node1-kvm.xml").read_text()


def test_old_systems_run_with_what_pcs_had_and_are_installed_by_virtio() -> None:
    found = cluster("one")
    data = (DataDisk("data", 64, "kept"),)
    head, node = (dataclasses.replace(each, devices="pc", disks=data) for each in (found.head, found.nodes[0]))
    found = dataclasses.replace(found, head=head, nodes=(node,))
    root = ET.fromstring(libvirt_xml.render(model("head", found)))
    disks = [
        (disk.attrib["device"], *(disk.find("target").attrib[name] for name in ("dev", "bus")))  # type: ignore[union-attr]
        for disk in root.iter("disk")
    ]
    assert disks == [("disk", "hda", "ide"), ("cdrom", "hdb", "ide"), ("cdrom", "hdc", "ide"), ("disk", "hdd", "ide")]
    assert {each.attrib["type"] for each in root.iterfind("devices/interface/model")} == {"e1000"}
    assert root.find("devices/serial[@type='file']/target[@port='1']") is not None
    assert not [each for each in root.iter() if "virtio" in each.attrib.values()]
    assert head.names_of("data") == ("hdd", "sdb") and node.names_of("data") == ("hdb", "sdb")
    made = engines.of("qemu").installer(model("node1", found), site.PRIVATE, "")
    assert [disk.target for disk in made.disks] == ["vda"]
    assert 'type="file"><source' not in libvirt_xml.render(made).replace("\n", "").replace(" ", "").split("serial")[0]
    assert "e1000" not in libvirt_xml.render(made) and "virtio" in libvirt_xml.render(made)


def test_disks_for_data_follow_what_a_machine_has_anyway_and_the_installer_gets_none() -> None:
    found = cluster("one")
    data = (DataDisk("data", 64, "kept"), DataDisk("scratch", 32, "throwaway"))
    head, node = (dataclasses.replace(machine, disks=data) for machine in (found.head, found.nodes[0]))
    found = dataclasses.replace(found, head=head, nodes=(node,))
    made = model("node1", found)
    assert [(disk.target, disk.serial, disk.lasts) for disk in made.disks] == [
        ("vda", "root", False),
        ("vdb", "data", True),
        ("vdc", "scratch", False),
    ]
    assert made.disks[1].path == "/run/xen-oscar/disks/node1.data.img"
    assert [disk.target for disk in model("head", found).disks] == ["vda", "vdb", "vdc", "vdd", "vde"]
    caches = [element.attrib["cache"] for element in ET.fromstring(libvirt_xml.render(made)).iter("driver")]
    assert caches == ["unsafe", "writeback", "unsafe"]
    larger = dataclasses.replace(node, disks=(dataclasses.replace(data[0], size_mib=65), data[1]))
    another = model("node1", dataclasses.replace(found, nodes=(larger,)))
    assert libvirt_xml.render(another) != libvirt_xml.render(made), "so it is started anew when its disk is larger"
    for hypervisor, place in (("qemu", site.PRIVATE), ("xen", site.shared("one"))):
        driver = engines.of(cast(Hypervisor, hypervisor))
        whole = driver.complete(domain.of("one", "amd64", node), node, place, "")
        assert [disk.serial for disk in whole.disks] == ["root", "data", "scratch"]
        assert [disk.serial for disk in driver.installer(whole, place, "").disks] == ["root"]


def test_names_and_ids_depend_on_cluster_and_machine_only() -> None:
    ids = {model(name, cluster(of)).uuid for of in ("one", "two") for name in ("head", "node1")}
    assert len(ids) == 4
    assert model("head").uuid == model("head").uuid
    assert model("node1").name == domain.name_of("one", "node1") == "one-node1"


def test_only_what_is_to_be_installed_boots_from_the_network_and_from_nothing_else() -> None:
    for name in ("head", "node1"):
        assert not any(card.boot for card in model(name).interfaces)
        assert next(disk.boot for disk in model(name).disks) == 1
    assert [card.boot for card in installer().interfaces] == [1]
    assert not any(disk.boot for disk in installer().disks)


@pytest.mark.parametrize("before", ["tcg", "kvm"])
@pytest.mark.parametrize("after", ["tcg", "kvm"])
def test_adjusting_for_a_start_is_the_same_as_rendering_for_it(
    before: domain.Accelerator, after: domain.Accelerator
) -> None:
    artifacts = (("disk", "sha256:1"), ("image", "sha256:2"))
    made = libvirt_xml.render(dataclasses.replace(model("node1"), accelerator=before, artifacts=(("disk", "old"),)))
    started = dataclasses.replace(model("node1"), accelerator=after, artifacts=artifacts)
    assert libvirt_xml.for_start(made, after, artifacts) == libvirt_xml.render(started)
    assert libvirt_xml.name_in(made) == "one-node1"


def test_metadata_comes_back() -> None:
    text = libvirt_xml.for_start(libvirt_xml.render(model("head")), "kvm", [("disk", "sha256:1")])
    expected = libvirt_xml.Metadata("one", "head", "head", "kvm", (("disk", "sha256:1"),))
    assert libvirt_xml.read_metadata(text) == expected
    element = ET.fromstring(text).find(f"metadata/{{{libvirt_xml.NAMESPACE}}}machine")
    assert element is not None
    assert libvirt_xml.read_metadata(ET.tostring(element, encoding="unicode")) == expected
    # as libvirt hands the element out alone
    assert (
        libvirt_xml.read_metadata(
            '<machine cluster="one" node="head" role="head" accelerator="kvm">'
            '<artifact role="disk" digest="sha256:1"/></machine>'
        )
        == expected
    )


def test_text_that_needs_escaping() -> None:
    odd = dataclasses.replace(model("node1"), kernel=Kernel("/a&b", "/<i>", 'x="1"'))
    root = ET.fromstring(libvirt_xml.render(odd))
    assert root.findtext("os/kernel") == "/a&b"
    assert root.findtext("os/cmdline") == 'x="1"'


def test_a_definition_that_is_not_ours() -> None:
    with pytest.raises(ValueError, match="no domain definition of ours"):
        libvirt_xml.for_start("<domain/>", "tcg", [])


@pytest.mark.parametrize(
    ("name", "hypervisor", "files"),
    [
        ("head", "qemu", ["run.xml"]),
        ("node1", "qemu", ["install.xml", "run.xml"]),
        ("head", "xen", ["run.xml"]),
        ("node1", "xen", ["install.xml", "run.xml"]),
    ],
)
def test_a_machine_has_a_definition_for_each_purpose(
    tmp_path: Path, name: str, hypervisor: str, files: list[str]
) -> None:
    found = cluster("one")
    step = Step(
        "definition",
        name,
        "",
        "pipeline.builders.definition:build",
        params={
            "cluster": "one",
            "architecture": "amd64",
            "machine": found.machine(name).to_json(),
            "hypervisor": hypervisor,
            "shared": hypervisor == "xen",
        },
    )
    definition.build(Job(step, (), tmp_path, tmp_path, tmp_path, tmp_path, tmp_path / "log", lambda *_: None, print))
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    if hypervisor == "qemu":
        assert (tmp_path / "run.xml").read_text() == (GOLDEN / f"{name}.xml").read_text()
