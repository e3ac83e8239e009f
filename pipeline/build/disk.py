"""Disk files: the head node's, ready to boot, and the compute nodes', empty.

The head node's disk is written from outside, without mounting and without an emulated machine: a partition table by
sfdisk, each ext4 file system by mke2fs from its part of the tree, swap by mkswap, GRUB by two writes.  No machine
ever writes to a disk file: it boots from an overlay over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.build import ext4, layers, layout, settings
from pipeline.build.tools import Tools, tools
from pipeline.description import Cluster, Machine
from pipeline.errors import CommandError, UserError
from pipeline.sandbox import Bind, mount
from pipeline.step import Input, Job


def empty(job: Job) -> None:
    """Builder: the disk of a compute node before it is installed: nothing but its size."""
    with ext4.blank(job.out / "disk.img", job.params["size_mib"] << 20):
        pass


def head(job: Job) -> None:
    """Builder: the disk of the head node."""
    cluster = Cluster.from_json(job.params["cluster"])
    machine = cluster.head
    plan = layout.of(cluster.name, machine)
    with (
        tools(job) as tool,
        layers.stacked(job) as stack,
        ext4.blank(job.out / "disk.img", plan.size) as image,
    ):
        tree = _writable(job, stack)
        settings.of(cluster, machine, plan).write(tree)
        for mount_point in (*(item.filesystem.mount for item in plan.mounts if item.filesystem), settings.SIS):
            (tree / mount_point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        tool.run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "/tmp/image"],
                 Bind(image, "/tmp/image", writable=True), input=plan.sfdisk_script().encode())
        for done, partition in enumerate(plan.mounts):
            job.progress(done, len(plan.mounts), "file systems")
            _fill(job, tool, image, tree, machine, plan, partition)
        _install_bootloader(job.input("bootloader"), image)


def _writable(job: Job, stack: Path) -> Path:
    """The stack with room for what only this machine has."""
    tree, upper, work = (job.work / name for name in ("tree", "upper", "overlay"))
    for folder in (tree, upper, work):
        folder.mkdir()
    mount("overlay", tree, "overlay", options=f"lowerdir={stack},upperdir={upper},workdir={work},userxattr")
    return tree


def _fill(job: Job, tool: Tools, image: Path, tree: Path, machine: Machine, plan: layout.Layout,
          partition: layout.Partition) -> None:
    assert partition.filesystem is not None
    place = partition.filesystem.mount
    if partition.filesystem.type == "swap":
        tool.run(["mkswap", "--quiet", "--pagesize", "4096", "--uuid", partition.uuid,
                  "--offset", str(partition.offset), "/tmp/image", str(partition.size // 1024)],
                 Bind(image, "/tmp/image", writable=True))
        return
    source = tree / place.lstrip("/")
    inner = _mounted_below(place, plan)
    try:
        ext4.make(tool, image, source, uuid=partition.uuid, size=partition.size, offset=partition.offset, without=inner)
    except CommandError as error:
        if not ext4.is_full(error):
            raise
        need = ext4.measure(source, inner).size
        raise UserError(
            f"{machine.name}: what belongs on {place} takes {need >> 20} MiB and file system tables, "
            f"its partition has {partition.size >> 20} MiB",
            hint="make that file system (and the disk) larger in the cluster's manifest, or leave out packages",
            log=job.log) from None


def _mounted_below(place: str, plan: layout.Layout) -> Sequence[str]:
    """Mount points inside a file system, as seen from its own root."""
    prefix = place.rstrip("/") + "/"
    mounts = [item.filesystem.mount for item in plan.mounts if item.filesystem and item.filesystem.type != "swap"]
    return [mount.removeprefix(prefix.rstrip("/")) for mount in mounts if mount != place and mount.startswith(prefix)]


def _install_bootloader(bootloader: Input, image: Path) -> None:
    with image.open("r+b") as file:
        file.write(bootloader.file("boot.img").read_bytes())
        file.seek(layout.SECTOR)
        file.write(bootloader.file("core.img").read_bytes())
