"""The few files in which one machine differs from the next: name, network, fstab, boot menu.

The head node gets them when its disk is made, compute nodes as overrides of SystemImager's kind when they are
installed: one description of them for both.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.builders.layout import Layout
from pipeline.description import Cluster, Machine
from pipeline.guests.cmdline import OPTIONS
from pipeline.rootfs import RootFs

#: Where the head node mounts the SIS image.
SIS = "/var/lib/systemimager"


@dataclass(frozen=True)
class Settings:
    """Text files by absolute path, and symbolic links (path -> target)."""

    files: Mapping[str, str]
    links: Mapping[str, str]

    def write(self, root: RootFs, like: RootFs | None = None) -> None:
        """Write them below `root`; folders that are missing get the mode and owner that they have below `like`."""
        for path in (*self.files, *self.links):
            self._make_folders(root, path.rpartition("/")[0], like)
        for path, text in self.files.items():
            root.write(path, text)
        for path, link in self.links.items():
            root.link(path, link)

    @staticmethod
    def _make_folders(root: RootFs, folder: str, like: RootFs | None) -> None:
        parts = folder.strip("/").split("/")
        for path in ("/".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if root.is_folder(path):
                continue
            root.make_folder(path)
            model = like.stat(path) if like else None
            if model and stat.S_ISDIR(model.st_mode):
                root.set_access(path, stat.S_IMODE(model.st_mode), (model.st_uid, model.st_gid))


def of(cluster: Cluster, machine: Machine, layout: Layout, networks: Mapping[str, str]) -> Settings:
    """All of one machine's own files; `networks` are those that its flavour has for its network cards."""
    files = {
        "/etc/hostname": f"{machine.name}\n",
        "/etc/fstab": fstab(machine, layout),
        "/boot/grub/grub.cfg": boot_menu(cluster, machine, layout),
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
        lines.append(f"LABEL=sis {SIS} ext4 ro,noatime 0 0")
    return "\n".join(lines) + "\n"


def boot_menu(cluster: Cluster, machine: Machine, layout: Layout) -> str:
    """For GRUB, and simple enough for pygrub."""
    return (
        "set default=0\n"
        "set timeout=0\n"
        f"menuentry '{machine.name} of {cluster.name}' {{\n"
        f"    linux /boot/vmlinuz root=UUID={layout.uuid_of('/')} rw {OPTIONS}\n"
        "    initrd /boot/initrd.img\n"
        "}\n"
    )
