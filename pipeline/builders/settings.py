"""The few files in which one machine differs from the next: name, network, fstab, boot menu.

The head node gets them when its disk is made, compute nodes with their identity when they are installed: one
description of them for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.builders.layout import ROOT_LABEL, Layout
from pipeline.description import Machine
from pipeline.guests import cmdline
from pipeline.rootfs import RootFs

#: Where the head node mounts the SIS image.
SIS = "/var/lib/systemimager"


@dataclass(frozen=True)
class Settings:
    """Text files by absolute path, and symbolic links (path -> target)."""

    files: Mapping[str, str]
    links: Mapping[str, str]

    def write(self, root: RootFs) -> None:
        """Write them below `root`."""
        for path, text in self.files.items():
            root.write(path, text)
        for path, link in self.links.items():
            root.link(path, link)


def of(machine: Machine, layout: Layout, networks: Mapping[str, str]) -> Settings:
    """All of one machine's own files; `networks` are those that its flavour has for its network cards."""
    files = {
        "/etc/hostname": f"{machine.name}\n",
        "/etc/fstab": fstab(machine, layout),
        "/boot/grub/grub.cfg": boot_menu(machine, layout),
        **networks,
    }
    # on a /boot of its own, the paths that GRUB and pygrub know are right as well
    return Settings(files, {"/boot/boot": "."} if any(item.mount == "/boot" for item in machine.filesystems) else {})


def fstab(machine: Machine, layout: Layout) -> str:
    """By UUID: the same disk is vda here and xvda there."""
    lines = []
    for partition in layout.mounts:
        assert partition.filesystem is not None
        mount, kind = partition.filesystem.mount, partition.filesystem.type
        if kind == "swap":
            lines.append(f"UUID={partition.uuid} none swap sw 0 0")
        else:
            lines.append(f"UUID={partition.uuid} {mount} {kind} defaults,noatime 0 0")
    if machine.role == "head":
        lines.append(f"LABEL=sis {SIS} {sis_type(partition.type for partition in machine.filesystems)} ro,noatime 0 0")
    return "\n".join(lines) + "\n"


def sis_type(types: Iterable[str]) -> str:
    """What the head node mounts the SIS image as, by the types of the file systems of its cluster's machines."""
    return "ext2" if "ext3" in types else "ext4"  # ext3 without a journal, which nobody writes to


def boot_menu(machine: Machine, layout: Layout) -> str:
    """For GRUB, and simple enough for pygrub."""
    root = f"LABEL={ROOT_LABEL}" if machine.by_label else f"UUID={layout.uuid_of('/')}"
    return (
        "set default=0\n"
        "set timeout=0\n"
        f"menuentry '{machine.name}' {{\n"
        f"    linux /boot/vmlinuz {cmdline.of(root, vsyscall=machine.vsyscall)}\n"
        "    initrd /boot/initrd.img\n"
        "}\n"
    )
