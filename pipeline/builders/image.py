"""The SIS images: a file system that the head node mounts where SystemImager keeps images.

    images/compute/         the root file system that compute nodes are installed from; one for each membership
    images/compute.sums     MD5 of each regular file, as `md5sum -c` takes it: what an installed node is held against
    scripts/                what the installer is told: partitions and file systems of the disks, how many bytes an
                            image has, and which files have holes
    overrides               where SystemImager has what goes over images: a link to a place that can be written to
    rsyncd.d/               the rsync modules of the images, for the head node's rsync daemon
    boot/                   kernel, ramdisk and iPXE script for the network boot; GRUB for the installed disks

It reaches the head node as a disk of its own, so that another image does not mean another head node.  It knows no
node: who they are reaches the head node when it starts.  What packages make of it is written once (`base.img`); the
OPKGs' share is a small qcow2 file over that (`sis.qcow2`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline import inventory, listing, qcow2
from pipeline.builders import layout, settings
from pipeline.builders.settings import SIS
from pipeline.description import FileSystem
from pipeline.errors import BuildError
from pipeline.guests.cmdline import OPTIONS
from pipeline.layers import edit, ext4, stacking
from pipeline.layers.tools import Tools, tools
from pipeline.qcow2 import BASE
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind
from pipeline.step import Job

#: On the head node, what goes over images: compute/ on every node, MEMBERSHIP/ on those of one, NODE/ on one.
OVERRIDES = "/var/lib/xen-oscar/overrides"

#: Nobody writes to it, and checksums of metadata cost an emulated head node time on every read.
_FEATURES = "^has_journal,^metadata_csum,^resize_inode"
#: What changes may add to a file system that is made: files, and bytes.
_MORE_INODES, _MORE_ROOM = 4096, 64 << 20

#: The file system, which lies over base.img.
_DISK = "sis.qcow2"

_IPXE = """\
#!ipxe
kernel kernel {options} BOOTIF=${{net0/mac}}
initrd initrd.img
boot
"""
_INSTALLER_OPTIONS = f"{OPTIONS} initrd=initrd.img"


@dataclass(frozen=True)
class _Sis:
    """What belongs on the file system: a tree, roots of images that are laid over parts of it, and all they hold."""

    tree: Path
    binds: tuple[Bind, ...]
    content: inventory.Tree


def base(job: Job) -> None:
    """Builder: base.img, the file system as packages alone would make it, and the inventory of that."""
    with tools(job) as tool, _collected(job, lists=False) as sis:
        _make(job, tool, sis)
        (job.out / inventory.LIST).write_text(listing.dump(sis.content))


def build(job: Job) -> None:
    """Builder: sis.qcow2, base.img, which lies below that, and beside it each image's inventory."""
    given = job.input("base")
    with tools(job) as tool, _collected(job, lists=True) as sis:
        size = given.file(BASE).stat().st_size
        before = listing.tree(given.file(inventory.LIST).read_text())
        try:
            clusters = edit.clusters(
                tool, given.file(BASE), before, sis.content, sis.tree, job.work, size=size, binds=sis.binds
            )
            job.pass_on("base", BASE)
        except edit.TooDifferent:
            clusters, size = {}, _make(job, tool, sis)
    qcow2.write(job.out / _DISK, size, clusters)
    os.utime(job.out / _DISK, (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH))


@contextlib.contextmanager
def _collected(job: Job, *, lists: bool) -> Iterator[_Sis]:
    """All that belongs there; without `lists` nothing that tells what is in an image."""
    images: Mapping[str, Mapping[str, Any]] = job.params["images"]
    with contextlib.ExitStack() as mounted:
        tree = job.work / "sis"
        for folder in ("images", "scripts", "rsyncd.d"):
            (tree / folder).mkdir(parents=True)
        binds: list[Bind] = []
        held: listing.Listing[inventory.Entry] = listing.Listing({})
        for image, disk in images.items():
            layers = [item for item in job.inputs if item.role == f"image/{image}"]
            root = mounted.enter_context(stacking.stacked(job, layers))
            content = stacking.contents(layers)
            (tree / "images" / image).mkdir()
            if lists:
                (job.out / listed(image)).write_text(listing.dump(content))
                _write_lists(tree, image, content)
                _write_scripts(tree / "scripts", image, disk["disk_mib"], disk["filesystems"], content)
            (tree / "rsyncd.d" / f"40{image}.conf").write_text(f"[{image}]\npath = {SIS}/images/{image}\n")
            binds.append(Bind(root, f"/tmp/tree/images/{image}"))
            held |= listing.placed(f"images/{image}", content)
        (tree / "overrides").symlink_to(OVERRIDES)
        _write_boot(tree / "boot", job)
        _clamp(tree)
        yield _Sis(tree, tuple(binds), listing.listed(inventory.of(tree, SOURCE_DATE_EPOCH)) | held)


def _make(job: Job, tool: Tools, sis: _Sis) -> int:
    """Write the whole file system, with room for changes; its size in bytes."""
    held = ext4.measure(sis.content)
    inodes = held.inodes + _MORE_INODES
    size = held.size + inodes * 256
    # block groups and the index of large files and folders take a little more
    size = -(-(size + size // 32 + _MORE_ROOM) >> 20) << 20
    with ext4.blank(job.out / BASE, size) as file:
        ext4.make(
            tool,
            file,
            sis.tree,
            uuid=str(layout.identifier("sis")),
            size=size,
            kind=_kind(job.params["images"].values()),
            label="sis",
            features=_FEATURES,
            inodes=inodes,
            binds=sis.binds,
        )
    return size


def _kind(images: Iterable[Mapping[str, Any]]) -> str:
    return settings.sis_type(item["type"] for image in images for item in image["filesystems"])


def listed(image: str) -> str:
    """The file that an image's inventory is in."""
    return f"{image}.{inventory.LIST}"


def _write_lists(tree: Path, image: str, content: inventory.Tree) -> None:
    files = {path: entry for path, entry in sorted(content.items()) if entry.type == "f"}
    holes = [path for path, entry in files.items() if entry.holes]
    # the content of a file with several names travels once
    travels = {entry.inode or path: entry.size for path, entry in files.items()}
    _write(tree / "images" / f"{image}.sums", "".join(checksum_line(path, entry.md5) for path, entry in files.items()))
    _write(tree / "scripts" / f"{image}.holes", "".join(f"./{path}\0" for path in holes))
    _write(tree / "scripts" / f"{image}.bytes", f"{sum(travels.values())}\n")


def checksum_line(path: str, md5: str) -> str:
    """A line as md5sum writes and reads it: with a backslash in front where there are such in the name."""
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == path else chr(92)}{md5}  ./{escaped}\n"


def _write(file: Path, text: str) -> None:
    file.write_bytes(os.fsencode(text))


def _write_scripts(
    scripts: Path, image: str, disk_mib: int, filesystems: Iterable[Mapping[str, Any]], content: inventory.Tree
) -> None:
    """What the installer asks for: what the disk shall look like."""
    who = f"{image} nodes"
    plan = layout.planned("compute", disk_mib, [FileSystem(**item) for item in filesystems], who)
    (scripts / f"{image}.sfdisk").write_text(plan.sfdisk_script())
    (scripts / f"{image}.filesystems").write_text(plan.table(_inodes(plan, content, who)))
    (scripts / f"{image}.sectors").write_text(f"{plan.sectors}\n")


def _inodes(plan: layout.Layout, content: inventory.Tree, who: str) -> dict[str, int]:
    """How many inodes each file system of a node must be told to have, by mount point; 0 = as many as it gets."""
    layout.require_together(who, plan, content)
    found = {}
    for partition in plan.mounts:
        assert partition.filesystem is not None
        place = partition.filesystem.mount
        if place != "swap":
            _require_folder(place, content, who)
            held = ext4.measure(content, place, plan.below(place))
            found[place] = ext4.inodes_for(held, partition.size, f"{who}, {place}")
    return found


def _require_folder(place: str, content: inventory.Tree, who: str) -> None:
    """The installer mounts before it copies, and nothing can be copied to where something is mounted but a folder."""
    for path in (place.strip("/"), *(str(above) for above in PurePosixPath(place.strip("/")).parents)):
        if path in content and content[path].type != "d":
            raise BuildError(
                f"{who}: nothing can be mounted on {place}: /{inventory.shown(path)} is no folder",
                hint="packages or OPKGs have made that: leave them out, or the file system",
            )


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
