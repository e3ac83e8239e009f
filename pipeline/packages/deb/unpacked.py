"""Packages unpacked over each other and not installed: build tools of locked versions, so that no host's matter.

No maintainer script runs: the tools need none, and the same packages always give the same tree.
"""

from __future__ import annotations

from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.deb.files import decompressing, extract
from pipeline.step import Job

#: What the base-files package would bring; without them the first package to come makes folders of them.
_MERGED = ("bin", "sbin", "lib", "lib64")


def build(job: Job) -> None:
    """Builder: all packages of the lock unpacked over each other, as `layer.tar.zst`."""
    root = job.work / "root"
    root.mkdir()
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (root / name).mkdir()
    fetched = job.input("fetch").file("packages")
    names = [package.file for package in lock.read(job.input("lock").file(lock.NAME))]
    ready = job.work / "ready"
    with decompressing([fetched / name for name in names], ready):
        extract([ready / name for name in names], root)
    stacking.write(job, root, None)
