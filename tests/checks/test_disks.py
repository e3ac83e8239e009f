"""Checks of disks; that each can fail, and tells what, is in test_machine.py."""

from __future__ import annotations

import dataclasses

from pipeline.checks import disks
from tests.checks.samples import MIB, changed, subject


def test_image_disk() -> None:
    mounts = changed(
        "mounts",
        "/var/lib/systemimager ro - ext4 /dev/vdb ro",
        "/var/lib/systemimager rw - ext4 /dev/vdb rw",
        "oscarhead",
    )
    assert disks.image_disk(subject("oscarhead", **mounts)).problems == ("/var/lib/systemimager can be written",)
    mounts = changed("mounts", "systemimager", "elsewhere", "oscarhead")
    assert "nothing is mounted on" in disks.image_disk(subject("oscarhead", **mounts)).problems[0]


def test_a_device_of_the_container_may_be_larger_than_what_is_needed_of_it() -> None:
    larger = subject("node1", **changed("blocks", str(1024 * MIB // 512), str(1400 * MIB // 512)))
    assert disks.partitions(larger).problems == ("vda has 1400 MiB, not 1024",)
    on_device = dataclasses.replace(larger.machine, device="/dev/vg0/node1")
    assert disks.partitions(dataclasses.replace(larger, machine=on_device)).problems == ()
    smaller = subject("node1", **changed("blocks", str(1024 * MIB // 512), str(1023 * MIB // 512)))
    assert disks.partitions(dataclasses.replace(smaller, machine=on_device)).problems
