"""Disk files: the head node's, ready to boot, and the compute nodes', empty.

The head node's disk is written from outside, without mounting and without an emulated machine: a partition table by
sfdisk, each ext4 file system by mke2fs from its part of the tree, swap by mkswap, GRUB by two writes.  That is done
once for what packages make (`base.img`); what OPKGs and the machine's own settings change of it is a small qcow2 file
over it (`disk.qcow2`), made in a second.  No machine ever writes to either: it boots from an overlay over them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from pipeline import inventory, listing, qcow2
from pipeline.builders import layout, settings
from pipeline.builders.settings import Settings
from pipeline.description import Machine
from pipeline.errors import BuildError, CommandError, UserError
from pipeline.layers import edit, ext4, stacking
from pipeline.layers.tools import Tools, tools
from pipeline.qcow2 import BASE
from pipeline.rootfs import RootFs
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind
from pipeline.step import Input, Job

_DISK = "disk.qcow2"


def empty(job: Job) -> None:
    """Builder: the disk of a compute node before it is installed: nothing but its size."""
    with ext4.blank(job.out / "disk.img", job.params["size_mib"] << 20):
        pass


def base(job: Job) -> None:
    """Builder: base.img, the head node's disk as its packages alone would make it, and the inventory of that."""
    with tools(job) as tool, stacking.stacked(job) as stack:
        tree, content = _grown(job, stack, None)
        _make(job, tool, tree, content)
        (job.out / inventory.LIST).write_text(listing.dump(content))


def head(job: Job) -> None:
    """Builder: disk.qcow2, the head node's disk; base.img, which lies below it; the inventory of what is on it."""
    machine = Machine.from_json(job.params["machine"])
    plan = layout.of(machine)
    with tools(job) as tool, stacking.stacked(job) as stack:
        own = settings.of(machine, plan, job.params["networks"])
        tree, content = _grown(job, stack, own)
        (job.out / inventory.LIST).write_text(listing.dump(content))
        layout.require_together(machine.name, plan, content)
        given = job.input("base")
        before = listing.tree(given.file(inventory.LIST).read_text())
        clusters: dict[int, bytes] = {}
        try:
            for partition in plan.mounts:
                assert partition.filesystem is not None
                place = partition.filesystem.mount
                if place != "swap":
                    clusters |= edit.clusters(
                        tool,
                        given.file(BASE),
                        listing.below(before, place, plan.below(place)),
                        listing.below(content, place, plan.below(place)),
                        tree / place.lstrip("/"),
                        job.work,
                        size=partition.size,
                        offset=partition.offset,
                    )
            job.pass_on("base", BASE)
        except edit.TooDifferent:
            clusters = {}
            _make(job, tool, tree, content)
    qcow2.write(job.out / _DISK, plan.size, clusters)
    os.utime(job.out / _DISK, (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH))


def _grown(job: Job, stack: Path, own: Settings | None) -> tuple[Path, inventory.Tree]:
    """The layers with what every disk has besides, and a machine's own settings; and the inventory of that."""
    machine = Machine.from_json(job.params["machine"])
    plan = layout.of(machine)
    tree, upper = stacking.writable(job, stack)
    with RootFs(tree) as inside:
        if own is not None:
            own.write(inside)
        for place in (*_mount_points(plan), settings.SIS):
            _make_mount_point(inside, place)
    return tree, stacking.contents(job.layers) | inventory.of(upper, SOURCE_DATE_EPOCH)


def _make(job: Job, tool: Tools, tree: Path, content: inventory.Tree) -> None:
    """Write a whole disk."""
    machine = Machine.from_json(job.params["machine"])
    plan = layout.of(machine)
    with ext4.blank(job.out / BASE, plan.size) as image:
        tool.run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "/tmp/image"],
            Bind(image, "/tmp/image", writable=True),
            input=plan.sfdisk_script().encode(),
        )
        for done, partition in enumerate(plan.mounts):
            job.progress(done, len(plan.mounts), "file systems")
            _fill(job, tool, image, tree, content, machine, plan, partition)
        _install_bootloader(job.input("bootloader"), image)


def _mount_points(plan: layout.Layout) -> list[str]:
    return [item.filesystem.mount for item in plan.mounts if item.filesystem and item.filesystem.type != "swap"]


def _make_mount_point(tree: RootFs, place: str) -> None:
    """A folder of the tree itself: what a link leads to would be taken for what lies on that file system."""
    try:
        tree.make_folder(place)
        tree.plain_folder(place)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        what = "a link stands on the way to it" if error.errno == errno.ELOOP else "a file stands there"
        raise BuildError(
            f"nothing can be mounted on {place}: in the root file system {what}",
            hint="packages or OPKGs have made that: leave them out, or the file system",
        ) from None


def _fill(
    job: Job,
    tool: Tools,
    image: Path,
    tree: Path,
    content: inventory.Tree,
    machine: Machine,
    plan: layout.Layout,
    partition: layout.Partition,
) -> None:
    assert partition.filesystem is not None
    place = partition.filesystem.mount
    if partition.filesystem.type == "swap":
        tool.run(
            [
                "mkswap",
                "--quiet",
                "--pagesize",
                "4096",
                "--uuid",
                partition.uuid,
                "--offset",
                str(partition.offset),
                "/tmp/image",
                str(partition.size // 1024),
            ],
            Bind(image, "/tmp/image", writable=True),
        )
        return
    source = tree / place.lstrip("/")
    inner = plan.below(place)
    held = ext4.measure(content, place, inner)
    try:
        ext4.make(
            tool,
            image,
            source,
            uuid=partition.uuid,
            size=partition.size,
            kind=partition.filesystem.type,
            label=layout.ROOT_LABEL if place == "/" else "",
            offset=partition.offset,
            without=inner,
            inodes=ext4.inodes_for(held, partition.size, f"{machine.name}, {place}"),
        )
    except CommandError as error:
        if not ext4.is_full(error):
            raise
        raise UserError(
            f"{machine.name}: what belongs on {place} takes {held.size >> 20} MiB and file system tables, "
            f"its partition has {partition.size >> 20} MiB",
            hint="make that file system (and the disk) larger in the cluster's manifest, or leave out packages",
            log=job.log,
        ) from None


def _install_bootloader(bootloader: Input, image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bootloader.file("boot.img").read_bytes())
        file.seek(layout.SECTOR)
        file.write(bootloader.file("core.img").read_bytes())
