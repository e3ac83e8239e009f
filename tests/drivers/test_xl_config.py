"""Configurations for xl: their text, and what of libxl's JSON is a difference.  (libxl itself: tests/builders.)"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from pipeline.drivers import xl_config
from pipeline.drivers.domain import Disk, Domain, Kernel
from tests.drivers.test_xen import model, netboot

GOLDEN = Path(__file__).parent / "golden"

#: libxl's answer to `golden/node1.cfg`: it leaves out whatever has its default.
ANSWER: dict[str, Any] = {
    "c_info": {"type": "pv", "name": "one-node1", "uuid": model().uuid},
    "b_info": {"max_vcpus": 1, "avail_vcpus": [0], "max_memkb": 393216, "target_memkb": 393216, "bootloader": "pygrub"},
    "disks": [
        {
            "pdev_path": "/var/lib/xen-oscar/one/disks/node1",
            "vdev": "xvda",
            "backend": "phy",
            "format": "raw",
            "readwrite": 1,
        }
    ],
    "nics": [{"devid": 0, "mac": "52:54:00:00:00:01", "bridge": model().interfaces[0].bridge}],
    "on_reboot": "restart",
}


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("node1", model()),
        ("node1-netboot", netboot()),
        ("head", model("head", virtualization="hvm")),
        ("node1-pvh", model(virtualization="pvh", boot="kernel", device="/dev/vg0/a,b")),
        ("node1-pci", model(pci=("0000:03:00.0",))),
    ],
)
def test_golden(name: str, made: Domain) -> None:
    assert xl_config.render(made) == (GOLDEN / f"{name}.cfg").read_text()


def test_the_target_is_the_last_word_of_a_disk() -> None:
    disks = (Disk("/d/a,b", "qcow2", "xvda", serial="root"), Disk("/dev/x", "raw", "xvdb", serial="s", readonly=True))
    text = xl_config.render(dataclasses.replace(model(), disks=disks))
    assert (
        'disk = ["format=qcow2,vdev=xvda,access=rw,target=/d/a,b", '
        '"format=raw,vdev=xvdb,access=ro,backendtype=phy,target=/dev/x"]\n'
    ) in text


@pytest.mark.parametrize(
    ("arguments", "written"),
    [("a b", '"a b"'), ("a='b c'", '''"a='b c'"'''), ('a="b c"', """'a="b c"'"""), ("a\\b", '"a\\\\b"')],
)
def test_quotes(arguments: str, written: str) -> None:
    text = xl_config.render(dataclasses.replace(model(), kernel=Kernel("/k", "/i", arguments)))
    assert f"cmdline = {written}\n" in text


@pytest.mark.parametrize("arguments", ["'\"", "a\nb", "a\0b"])
def test_what_has_no_notation_is_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match="xl has no notation for"):
        xl_config.render(dataclasses.replace(model(), kernel=Kernel("/k", "/i", arguments)))


def test_an_answer_that_agrees() -> None:
    assert list(xl_config.differences(model(), ANSWER)) == []


@pytest.mark.parametrize(
    ("part", "change", "setting"),
    [
        ("c_info", {"name": "other"}, "name"),
        ("c_info", {"uuid": ""}, "uuid"),
        ("c_info", {"type": "hvm"}, "type"),
        ("b_info", {"max_memkb": 1}, "memory"),
        ("b_info", {"target_memkb": 1}, "memory"),
        ("b_info", {"max_vcpus": 2}, "vcpus"),
        ("b_info", {"avail_vcpus": []}, "vcpus"),
        ("b_info", {"kernel": "/k"}, "kernel"),
        ("b_info", {"ramdisk": "/i"}, "ramdisk"),
        ("b_info", {"cmdline": "x"}, "cmdline"),
        ("b_info", {"bootloader": "/bin/other"}, "bootloader"),
        ("b_info", {"type.pv": {"serial": "pty"}}, "serial"),
        ("disks", [], "disk"),
        ("disks", [{**ANSWER["disks"][0], "pdev_path": "/x"}], "disk"),
        ("disks", [{**ANSWER["disks"][0], "vdev": "xvdb"}], "disk"),
        ("disks", [{**ANSWER["disks"][0], "format": "qcow2"}], "disk"),
        ("disks", [{**ANSWER["disks"][0], "backend": "qdisk"}], "disk"),
        ("disks", [{**ANSWER["disks"][0], "readwrite": 0}], "disk"),
        ("nics", [{**ANSWER["nics"][0], "mac": "00:00:00:00:00:01"}], "vif"),
        ("nics", [{**ANSWER["nics"][0], "bridge": "xenbr0"}], "vif"),
        ("pcidevs", [{"bus": 3}], "pci"),
        ("on_poweroff", "preserve", "on_poweroff"),
        ("on_reboot", "destroy", "on_reboot"),
        ("on_crash", "restart", "on_crash"),
    ],
)
def test_an_answer_that_differs(part: str, change: Any, setting: str) -> None:
    answer = {**ANSWER, part: {**ANSWER[part], **change} if isinstance(change, dict) else change}
    assert [key for key, _ in xl_config.differences(model(), answer)] == [setting]
    [(_, text)] = xl_config.differences(model(), answer)
    assert text.startswith("libxl understood ") and ", expected " in text


def test_addresses_of_pci_devices() -> None:
    answer = {**ANSWER, "pcidevs": [{"domain": 1, "bus": 10, "dev": 31, "func": 7}, {"bus": 3}]}
    assert not list(xl_config.differences(model(pci=("0001:0a:1f.7", "0000:03:00.0")), answer))
