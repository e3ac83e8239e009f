"""GRUB for the disks of head and compute nodes: two files that anybody can put in place with two writes.

`boot.img` goes to the first 440 bytes of the disk, `core.img` to the sectors from the second on, in front of the
first partition.  No mounts, no chroot, no grub-install: the same two files for every disk, made once.
"""

from __future__ import annotations

from pipeline.errors import BuildError
from pipeline.layers.tools import tools
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind
from pipeline.step import Job

_PLATFORM = "/usr/lib/grub/i386-pc"
_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "linux", "configfile", "serial", "terminal", "echo", "test")
#: A disk whose first partition is /boot alone has a link `boot` to itself there (settings.py).
_PREFIX = "(hd0,msdos1)/boot/grub"

#: core.img lies between the boot sector and the first partition at 1 MiB.
_ROOM = 2047 * 512


def build(job: Job) -> None:
    """Builder: boot.img and core.img."""
    with tools(job) as tool:
        tool.run(
            ["grub-mkimage", "-O", "i386-pc", "-d", _PLATFORM, "-p", _PREFIX, "-o", "/tmp/out/core.img", *_MODULES],
            Bind(job.out, "/tmp/out", writable=True),
        )
        with RootFs(tool.root) as root:
            (job.out / "boot.img").write_bytes(root.read(f"{_PLATFORM}/boot.img")[:440])
    if (job.out / "core.img").stat().st_size > _ROOM:
        raise BuildError(
            "core.img does not fit in front of the first partition",
            hint="take modules out of pipeline/builders/bootloader.py",
        )
