"""All locked packages of one side of a cluster, as one layer: installed by the root's own rpm, in one transaction."""

from __future__ import annotations

from pathlib import Path

from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm.install import install
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the lock's packages installed on top of the layers below, as `layer.tar.zst`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    fetched = job.input("fetch").file("packages")

    def change(root: Path) -> None:
        if packages:
            install(root, packages, fetched, place=str(job.params["database"]), log=job.log)

    stacking.change(job, change)
