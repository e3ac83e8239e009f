"""Disk files: the head node's, ready to boot, and the compute nodes', empty.

The head node's disk is written from outside, without mounting and without an emulated machine: a partition table by
sfdisk, each ext4 file system by mke2fs from its part of the tree, swap by mkswap, GRUB by two writes.  No machine
ever writes to a disk file: it boots from an overlay over it.
"""

from __future__ import annotations

import errno
from pathlib import Path

from pipeline import inventory
from pipeline.builders import layout, settings
from pipeline.description import Machine
from pipeline.errors import BuildError, CommandError, UserError
from pipeline.layers import ext4, stacking
from pipeline.layers.tools import Tools, tools
from pipeline.rootfs import RootFs
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind
from pipeline.step import Input, Job


def empty(job: Job) -> None:
    """Builder: the disk of a compute node before it is installed: nothing but its size."""
    with ext4.blank(job.out / "disk.img", job.params["size_mib"] << 20):
        pass


def head(job: Job) -> None:
    """Builder: the disk of the head node, and beside it the inventory of what is on it."""
    machine = Machine.from_json(job.params["machine"])
    plan = layout.of(machine)
    with (
        tools(job) as tool,
        stacking.stacked(job) as stack,
        ext4.blank(job.out / "disk.img", plan.size) as image,
    ):
        tree, own = stacking.writable(job, stack)
        with RootFs(tree) as inside:
            settings.of(machine, plan, job.params["networks"]).write(inside)
            for place in (*_mount_points(plan), settings.SIS):
                _make_mount_point(inside, place)
        tool.run(
            ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "/tmp/image"],
            Bind(image, "/tmp/image", writable=True),
            input=plan.sfdisk_script().encode(),
        )
        content = {**stacking.contents(job.layers), **inventory.of(own, SOURCE_DATE_EPOCH)}
        (job.out / inventory.LIST).write_text(inventory.dump(content))
        layout.require_together(machine.name, plan, content)
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
