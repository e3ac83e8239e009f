"""The head node as a tarball: its whole root file system, to be unpacked on a disk, in a container or for a look.

It is many zstd frames one after the other, which all that reads zstd takes for one; `head.tar.zst.frames` lists them.
After a small change most of them are taken over from the tarball that was made before (`layers/frames.py`).
"""

from __future__ import annotations

from pipeline import sandbox
from pipeline.layers import frames, stacking
from pipeline.step import Job

_NAME = "head.tar.zst"


def build(job: Job) -> None:
    """Builder: the layers as one `head.tar.zst`; entries sorted, times clamped, owners as numbers."""
    content = stacking.contents(job.layers)
    content |= {"": content[""]._replace(mtime=sandbox.SOURCE_DATE_EPOCH)}  # which no layer tells
    with stacking.stacked(job, compared=job.former is not None) as root:
        frames.write(content, root, job.out / _NAME, job.former / _NAME if job.former else None)
