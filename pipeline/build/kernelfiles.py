"""A distribution's kernel and ramdisk as two files, for hypervisors that load a kernel before there is a disk to read.

They stay compressed as the distribution has them: Xen's loader reads each of its formats.
"""

from __future__ import annotations

import shutil

from pipeline.build import kernel, layers
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: `kernel` and `initrd.img`."""
    with layers.stacked(job) as root:
        found = kernel.find(root)
        shutil.copyfile(found.image, job.out / "kernel")
        shutil.copyfile(root / "boot" / f"initrd.img-{found.version}", job.out / "initrd.img")
