"""All locked distribution packages of one side of a cluster, as one layer.

One layer and not one an OPKG: layers of packages that don't know of each other hide each other's entries in the
package database and give the same user id twice.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.deb.files import decompressing
from pipeline.packages.deb.install import install
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the lock's packages installed on top of the layers below, as `layer.tar.zst`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    fetched = job.input("fetch").file("packages")
    ready = job.work / "ready"
    words = [f"{package.name}={package.evr}" for package in packages]

    def change(root: Path) -> None:
        if packages:
            install(root, packages, fetched, words, work=job.work, log=job.log, ready=ready)

    with decompressing([fetched / package.file for package in packages], ready):
        stacking.change(job, change)
