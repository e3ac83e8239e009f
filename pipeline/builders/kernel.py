"""A distribution's kernel and ramdisk as two files, for hypervisors that load a kernel before there is a disk to read.

They stay compressed as the distribution has them: Xen's loader reads each of its formats.
"""

from __future__ import annotations

from pipeline.guests import kernel
from pipeline.layers import stacking
from pipeline.rootfs import RootFs
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: `kernel` and `initrd.img`."""
    with stacking.stacked(job) as top, RootFs(top) as root:
        found = kernel.find(root)
        (job.out / "kernel").write_bytes(root.read(found.image))
        (job.out / "initrd.img").write_bytes(root.read("boot/initrd.img"))
