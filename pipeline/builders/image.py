"""The SIS image: a file system that the head node mounts where SystemImager keeps images.

    images/compute/         the root file system that compute nodes are installed from
    images/compute.sums     MD5 of each regular file, as `md5sum -c` takes it: what an installed node is held against
    scripts/                what the installer is told: clients by MAC, and for each its partitions and file systems;
                            of the image how many bytes it has, and which files have holes
    overrides/compute/      files that go over the image on every node; overrides/NODE/ on this node
    rsyncd.d/               the rsync module of the image, for the head node's rsync daemon
    boot/                   kernel, ramdisk and iPXE script for the network boot; GRUB for the installed disks

It reaches the head node as a disk of its own, so that another image does not mean another head node.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline import inventory
from pipeline.builders import layout, settings
from pipeline.description import Cluster, Machine
from pipeline.errors import BuildError
from pipeline.guests.cmdline import OPTIONS
from pipeline.layers import ext4, stacking
from pipeline.layers.tools import tools
from pipeline.rootfs import RootFs
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind
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
_INSTALLER_OPTIONS = f"{OPTIONS} initrd=initrd.img"


def build(job: Job) -> None:
    """Builder: sis.img, and beside it the image's inventory."""
    cluster = Cluster.from_json(job.params["cluster"])
    with tools(job) as tool, stacking.stacked(job) as root:
        tree = job.work / "sis"
        content = stacking.contents(job.layers)
        (job.out / inventory.LIST).write_text(inventory.dump(content))
        _write_images(tree, content)
        _write_scripts(tree, cluster, job.params["networks"], root, content)
        _write_boot(tree / "boot", job)
        (tree / "rsyncd.d").mkdir()
        (tree / "rsyncd.d" / f"40{IMAGE}.conf").write_text(f"[{IMAGE}]\npath = /var/lib/systemimager/images/{IMAGE}\n")
        _clamp(tree)
        held = [ext4.measure(inventory.of(tree, SOURCE_DATE_EPOCH)), ext4.measure(content)]
        inodes = sum(item.inodes for item in held) + 64
        size = sum(item.size for item in held) + inodes * 256
        # block groups and the index of large files and folders take a little more
        size = -(-(size + size // 32 + (8 << 20)) >> 20) << 20
        with ext4.blank(job.out / "sis.img", size) as image:
            ext4.make(tool, image, tree, uuid=str(layout.identifier(cluster.name, "sis")), size=size, label="sis",
                      features=_FEATURES, inodes=inodes, binds=[Bind(root, f"/tmp/tree/images/{IMAGE}")])


def _write_images(tree: Path, content: inventory.Tree) -> None:
    (tree / "images" / IMAGE).mkdir(parents=True)
    (tree / "scripts").mkdir()
    files = {path: entry for path, entry in sorted(content.items()) if entry.type == "f"}
    holes = [path for path, entry in files.items() if entry.holes]
    # the content of a file with several names travels once
    travels = {entry.inode or path: entry.size for path, entry in files.items()}
    _write(tree / "images" / f"{IMAGE}.sums", "".join(checksum_line(path, entry.md5) for path, entry in files.items()))
    _write(tree / "scripts" / f"{IMAGE}.holes", "".join(f"./{path}\0" for path in holes))
    _write(tree / "scripts" / f"{IMAGE}.bytes", f"{sum(travels.values())}\n")


def checksum_line(path: str, md5: str) -> str:
    """A line as md5sum writes and reads it: with a backslash in front where there are such in the name."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == path else chr(92)}{md5}  ./{escaped}\n"


def _write(file: Path, text: str) -> None:
    file.write_bytes(os.fsencode(text))


def _write_scripts(tree: Path, cluster: Cluster, networks: Mapping[str, Mapping[str, str]], root: Path,
                   content: inventory.Tree) -> None:
    """What the installer on each node asks for: who it is, and what its disk shall look like."""
    scripts = tree / "scripts"
    clients = []
    (tree / "overrides" / IMAGE).mkdir(parents=True)
    for node in cluster.nodes:
        card = node.interfaces[0]
        clients.append(f"{card.mac.lower()} {node.name} {card.address} {card.prefix} {IMAGE}\n")
        plan = layout.of(cluster.name, node)
        (scripts / f"{node.name}.sfdisk").write_text(plan.sfdisk_script())
        (scripts / f"{node.name}.filesystems").write_text(plan.table(_inodes(node, plan, content)))
        (scripts / f"{node.name}.sectors").write_text(f"{plan.sectors}\n")
        override = tree / "overrides" / node.name
        override.mkdir()
        with RootFs(override) as overrides, RootFs(root) as image:
            settings.of(cluster, node, plan, networks[node.name]).write(overrides, like=image)
    (scripts / "clients").write_text("".join(clients))


def _inodes(node: Machine, plan: layout.Layout, content: inventory.Tree) -> dict[str, int]:
    """How many inodes each file system of a node must be told to have, by mount point; 0 = as many as it gets."""
    layout.require_together(node, plan, content)
    found = {}
    for partition in plan.mounts:
        assert partition.filesystem is not None
        place = partition.filesystem.mount
        if place != "swap":
            _require_folder(node, place, content)
            held = ext4.measure(content, place, plan.below(place))
            found[place] = ext4.inodes_for(held, partition.size, f"{node.name}, {place}")
    return found


def _require_folder(node: Machine, place: str, content: inventory.Tree) -> None:
    """The installer mounts before it copies, and nothing can be copied to where something is mounted but a folder."""
    for path in (place.strip("/"), *(str(above) for above in PurePosixPath(place.strip("/")).parents)):
        if path in content and content[path].type != "d":
            raise BuildError(f"{node.name}: nothing can be mounted on {place}: /{inventory.shown(path)} is no folder",
                             hint="packages or OPKGs have made that: leave them out, or the file system")


def _write_boot(boot: Path, job: Job) -> None:
    boot.mkdir()
    for role, names in (("netboot", ("kernel", "initrd.img")), ("bootloader", ("boot.img", "core.img"))):
        for name in names:
            (boot / name).write_bytes(job.input(role).file(name).read_bytes())
    (boot / "boot.ipxe").write_text(_IPXE.format(options=_INSTALLER_OPTIONS))


def _clamp(tree: Path) -> None:
    """Nothing that was written just now shows when that was."""
    when = SOURCE_DATE_EPOCH
    for folder, _, files in os.walk(tree, topdown=False):
        for name in files:
            os.utime(os.path.join(folder, name), (when, when), follow_symlinks=False)
        os.utime(folder, (when, when))
