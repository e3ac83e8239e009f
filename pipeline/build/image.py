"""The SIS image: a file system that the head node mounts where SystemImager keeps images.

    images/compute/         the root file system that compute nodes are installed from
    images/compute.sums     MD5 of each regular file, as `md5sum -c` takes it: what an installed node is held against
    images/compute.tree     `type mode uid gid size-or-target path` of everything in the image
    scripts/                what the installer is told: clients by MAC, and for each its partitions and file systems
    overrides/compute/      files that go over the image on every node; overrides/NODE/ on this node
    rsyncd.d/               the rsync module of the image, for the head node's rsync daemon
    boot/                   kernel, ramdisk and iPXE script for the network boot; GRUB for the installed disks

It reaches the head node as a disk of its own, so that another image does not mean another head node.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.build import ext4, layers, layout, settings
from pipeline.build.tools import tools
from pipeline.description import Cluster
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind
from pipeline.step import Job

#: What the installer and rsync call the one image of a cluster.
IMAGE = "compute"

#: Nobody writes to it, and checksums of metadata cost an emulated head node time on every read.
_FEATURES = "^has_journal,^metadata_csum,^resize_inode"

_IPXE = """\
#!ipxe
kernel kernel {options} BOOTIF=${{net0/mac}}
initrd initrd.img
boot
"""
_INSTALLER_OPTIONS = f"{settings.KERNEL_OPTIONS} initrd=initrd.img"


def build(job: Job) -> None:
    """Builder: sis.img."""
    cluster = Cluster.from_json(job.params["cluster"])
    with tools(job) as tool, layers.stacked(job) as root:
        tree = job.work / "sis"
        _write_images(tree / "images", root, job)
        _write_scripts(tree, cluster, root)
        _write_boot(tree / "boot", job)
        (tree / "rsyncd.d").mkdir()
        (tree / "rsyncd.d" / f"40{IMAGE}.conf").write_text(f"[{IMAGE}]\npath = /var/lib/systemimager/images/{IMAGE}\n")
        _clamp(tree)
        held = [ext4.measure(tree), ext4.measure(root)]
        inodes = sum(item.inodes for item in held) + 64
        size = sum(item.size for item in held) + inodes * 256
        # block groups and the index of large files and folders take a little more
        size = -(-(size + size // 32 + (8 << 20)) >> 20) << 20
        with ext4.blank(job.out / "sis.img", size) as image:
            ext4.make(tool, image, tree, uuid=str(layout.identifier(cluster.name, "sis")), size=size, label="sis",
                      features=_FEATURES, inodes=inodes, binds=[Bind(root, f"/tmp/tree/images/{IMAGE}")])


def _write_images(images: Path, root: Path, job: Job) -> None:
    (images / IMAGE).mkdir(parents=True)
    sums, tree, total = [], [], 0
    for path, name in _walk(root):
        status = path.lstat()
        mode = f"{stat.S_IMODE(status.st_mode):04o} {status.st_uid} {status.st_gid}"
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                sums.append(f"{hashlib.file_digest(file, 'md5').hexdigest()}  {name}\n")
            tree.append(f"f {mode} {status.st_size} {name}\n")
            total += status.st_size
        elif stat.S_ISLNK(status.st_mode):
            tree.append(f"l {mode} {os.readlink(path)} {name}\n")
        elif stat.S_ISDIR(status.st_mode):
            tree.append(f"d {mode} - {name}\n")
        else:
            tree.append(f"s {mode} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)} {name}\n")
        job.progress(len(tree), 0, "files")
    (images / f"{IMAGE}.sums").write_text("".join(sums), encoding="utf-8", errors="surrogateescape")
    (images / f"{IMAGE}.tree").write_text("".join(tree), encoding="utf-8", errors="surrogateescape")
    (images.parent / "scripts").mkdir()
    (images.parent / "scripts" / f"{IMAGE}.bytes").write_text(f"{total}\n")


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Everything below `root`, sorted, with its name as `./path`."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        for name in sorted([*files, *folders]):
            path = Path(folder, name)
            yield path, f"./{path.relative_to(root)}"
        for name in links:
            folders.remove(name)


def _write_scripts(tree: Path, cluster: Cluster, root: Path) -> None:
    """What the installer on each node asks for: who it is, and what its disk shall look like."""
    scripts = tree / "scripts"
    clients = []
    (tree / "overrides" / IMAGE).mkdir(parents=True)
    for node in cluster.nodes:
        card = node.interfaces[0]
        clients.append(f"{card.mac.lower()} {node.name} {card.address} {card.prefix} {IMAGE}\n")
        plan = layout.of(cluster.name, node)
        (scripts / f"{node.name}.sfdisk").write_text(plan.sfdisk_script())
        (scripts / f"{node.name}.filesystems").write_text(plan.table())
        (scripts / f"{node.name}.sectors").write_text(f"{plan.sectors}\n")
        override = tree / "overrides" / node.name
        override.mkdir()
        with RootFs(override) as overrides, RootFs(root) as image:
            settings.of(cluster, node, plan).write(overrides, like=image)
    (scripts / "clients").write_text("".join(clients))


def _write_boot(boot: Path, job: Job) -> None:
    boot.mkdir()
    for role, names in (("netboot", ("kernel", "initrd.img")), ("bootloader", ("boot.img", "core.img"))):
        for name in names:
            (boot / name).write_bytes(job.input(role).file(name).read_bytes())
    (boot / "boot.ipxe").write_text(_IPXE.format(options=_INSTALLER_OPTIONS))


def _clamp(tree: Path) -> None:
    """Nothing that was written just now shows when that was."""
    when = int(os.environ["SOURCE_DATE_EPOCH"])
    for folder, _, files in os.walk(tree, topdown=False):
        for name in files:
            os.utime(os.path.join(folder, name), (when, when), follow_symlinks=False)
        os.utime(folder, (when, when))
