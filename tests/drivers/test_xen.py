"""Domains for Xen: what the model makes of a machine, and that both notations of it say the same."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pipeline.description import Boot, Virtualization
from pipeline.drivers import domain, engines, libvirt_xml, site, xen, xl_config
from pipeline.drivers.domain import Disk, Domain
from tests.samples import cluster

SITE = site.shared("one")
ARGUMENTS = "root=UUID=1-2 rw console=hvc0 quiet"

KINDS: dict[str, Virtualization] = {"linux": "pv", "xenpvh": "pvh", "hvm": "hvm"}


def model(name: str = "node1", **changes: Any) -> Domain:
    """A machine on Xen."""
    found = cluster("one")
    machine = dataclasses.replace(found.machine(name), **changes)
    return engines.domain_of(found.name, found.architecture, machine, SITE, "xen", ARGUMENTS)


def netboot(**changes: Any) -> Domain:
    installer = xen.DRIVER.installer
    assert installer is not None
    return installer(model(**changes), SITE, "BOOTIF=x")


def variants() -> list[Domain]:
    """One domain of each kind that a manifest can ask for."""
    kinds: tuple[Virtualization, ...] = ("pv", "pvh", "hvm")
    boots: tuple[Boot, ...] = ("pygrub", "kernel")
    made = [model("head")]
    for kind, boot in itertools.product(kinds, boots):
        made += [model(virtualization=kind, boot=boot), netboot(virtualization=kind, boot=boot)]
    made += [
        model(device="/dev/vg0/node1"),
        model(pci=("0000:03:00.0", "0001:0a:1f.7")),
        model(cpus=4, memory_mib=1024),
    ]
    qcow2 = (Disk("/d/a.qcow2", "qcow2", "xvda", serial="root", boot=1),)
    return [*made, dataclasses.replace(model(), disks=qcow2)]


def from_xml(text: str) -> dict[str, Any]:
    """What a libvirt definition says, by the names of xl's settings."""
    root = ET.fromstring(text)
    assert root.get("type") == "xen"
    devices = root.find("devices")
    assert devices is not None
    disks = []
    for disk in devices.findall("disk"):
        source, driver, target = disk.find("source"), disk.find("driver"), disk.find("target")
        assert source is not None and driver is not None and target is not None
        raw = driver.get("name") == "phy"
        assert disk.get("type") == ("block" if raw else "file")
        words = [
            f"format={driver.get('type', 'raw')}",
            f"vdev={target.get('dev')}",
            f"access={'rw' if disk.find('readonly') is None else 'ro'}",
        ]
        disks.append(
            ",".join(
                [*words, *(["backendtype=phy"] if raw else []), f"target={source.get('dev') or source.get('file')}"]
            )
        )
    cards = [
        f"mac={card.find('mac').get('address')},"  # type: ignore[union-attr]
        f"bridge={card.find('source').get('bridge')}"  # type: ignore[union-attr]
        for card in devices.findall("interface")
    ]
    found: dict[str, Any] = {
        "name": root.findtext("name"),
        "uuid": root.findtext("uuid"),
        "memory": int(root.findtext("memory") or 0),
        "vcpus": int(root.findtext("vcpu") or 0),
        "type": KINDS[root.findtext("os/type") or ""],
        "disk": disks,
        "vif": cards,
        **{name: root.findtext(name) for name in ("on_poweroff", "on_reboot", "on_crash")},
    }
    for key, path in (
        ("kernel", "os/kernel"),
        ("ramdisk", "os/initrd"),
        ("cmdline", "os/cmdline"),
        ("bootloader", "bootloader"),
    ):
        if root.find(path) is not None:
            found[key] = root.findtext(path)
    places = [place.attrib for place in devices.iterfind("hostdev/source/address")]
    if places:
        found["pci"] = [
            f"{place['domain'][2:]}:{place['bus'][2:]}:{place['slot'][2:]}.{place['function'][2:]}" for place in places
        ]
    if devices.find("serial") is not None:
        found |= {"serial": "pty", "vnc": 0}
    return found


@pytest.mark.parametrize("domain_", variants(), ids=lambda one: f"{one.virtualization}-{one.bootloader or 'none'}")
def test_both_notations_say_the_same(domain_: Domain) -> None:
    settings = dict(line.split(" = ", 1) for line in xl_config.render(domain_).splitlines())
    # lists, numbers and texts as xl writes them are Python's too
    assert from_xml(libvirt_xml.render(domain_)) == {key: ast.literal_eval(text) for key, text in settings.items()}


def test_where_a_machine_gets_its_kernel() -> None:
    def boots(virtualization: Virtualization, boot: Boot) -> tuple[str, str, bool]:
        made = model(virtualization=virtualization, boot=boot)
        root = ET.fromstring(libvirt_xml.render(made))
        return made.bootloader, made.kernel.image if made.kernel else "", root.find("os/boot") is not None

    outside = "/var/lib/xen-oscar/one/boot/kernel"
    paravirtualised: tuple[Virtualization, ...] = ("pv", "pvh")
    for kind in paravirtualised:
        assert boots(kind, "pygrub") == ("pygrub", "", False)
        assert boots(kind, "kernel") == ("", outside, False)
    assert boots("hvm", "pygrub") == ("", "", True)


def test_the_head_node_has_the_image_and_its_identity() -> None:
    head = model("head")
    assert [(disk.path.rpartition("/")[2], disk.target, disk.readonly) for disk in head.disks] == [
        ("head", "xvda", False),
        ("sis", "xvdb", True),
        ("identity", "xvdc", True),
    ]
    assert all(disk.path.startswith("/var/lib/xen-oscar/one/disks/") for disk in head.disks)


def test_a_device_of_the_host_takes_the_place_of_the_disk_file() -> None:
    assert [disk.path for disk in model(device="/dev/vg0/node1").disks] == ["/dev/vg0/node1"]
    assert [disk.path for disk in netboot(device="/dev/vg0/node1").disks] == ["/dev/vg0/node1"]


@pytest.mark.parametrize("virtualization", ["pv", "pvh", "hvm"])
@pytest.mark.parametrize("boot", ["pygrub", "kernel"])
def test_a_netboot_domain_is_the_node_but_for_its_kernel(virtualization: Virtualization, boot: Boot) -> None:
    node = model(virtualization=virtualization, boot=boot)
    installer = netboot(virtualization=virtualization, boot=boot, pci=("0000:03:00.0",))
    assert installer.kernel == domain.Kernel(
        "/var/lib/xen-oscar/one/boot/netboot-kernel", "/var/lib/xen-oscar/one/boot/netboot-initrd.img", "BOOTIF=x"
    )
    assert (installer.on_reboot, installer.bootloader, installer.pci) == ("destroy", "", ())
    assert dataclasses.replace(installer, kernel=node.kernel, bootloader=node.bootloader, on_reboot="restart") == node


def test_bridges_of_clusters_that_share_a_host_differ_and_fit() -> None:
    sites = [site.shared(name) for name in ("one", "two", "a" * 40)]
    names = [one.bridge(network) for one in sites for network in ("public", "private")]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 and name.startswith("xo") for name in names)
    assert [card.bridge for card in model("head").interfaces] == names[:2]


def test_a_start_marks_a_xen_domain_and_changes_nothing_else() -> None:
    artifacts = (("disk", "sha256:1"),)
    after = libvirt_xml.for_start(libvirt_xml.render(model()), "kvm", artifacts)
    assert libvirt_xml.read_metadata(after) == libvirt_xml.Metadata("one", "node1", "compute", "tcg", artifacts)
    assert after == libvirt_xml.render(dataclasses.replace(model(), artifacts=artifacts))
    assert libvirt_xml.name_in(after) == "one-node1"
