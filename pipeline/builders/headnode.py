"""The head node as a tarball: its whole root file system, to be unpacked on a disk, in a container or for a look."""

from __future__ import annotations

import subprocess

import zstandard

from pipeline import inventory, sandbox
from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.run import spawn
from pipeline.step import Job

#: Level 3 takes a second for 400 MB; more takes much longer and saves little.  The number of threads does not change
#: the bytes, as long as there is one.
_LEVEL, _THREADS = 3, 2


def build(job: Job) -> None:
    """Builder: the layers as one `head.tar.zst`; entries sorted, times clamped, owners as numbers."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=_THREADS, write_checksum=True)
    with stacking.stacked(job) as root, job.log.open("ab") as errors:
        argv = [
            "tar",
            "--create",
            "--format=posix",
            "--sort=name",
            "--numeric-owner",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            f"--mtime=@{sandbox.SOURCE_DATE_EPOCH}",
            "--clamp-mtime",
            *inventory.TAR_CREATE,
            f"--directory={root}",
            ".",
        ]
        with spawn(argv, stdout=subprocess.PIPE, stderr=errors) as tar, (job.out / "head.tar.zst").open("wb") as target:
            assert tar.stdout is not None
            compressor.copy_stream(tar.stdout, target)
            if tar.wait() != 0:
                raise BuildError("tar could not read the head node's files", log=job.log)
