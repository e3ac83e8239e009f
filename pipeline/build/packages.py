"""All locked distribution packages of one side of a cluster, as one layer.

One layer and not one an OPKG: layers of packages that don't know of each other hide each other's entries in the
package database and give the same user id twice.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.build import layers
from pipeline.build.debian import install
from pipeline.build.debs import unpacked
from pipeline.families.deb import locked
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the lock's packages installed on top of the layers below, as `layer.tar.zst`."""
    packages = locked(job.input("lock").file("lock.json"))
    ready = job.work / "ready"
    unpacked([job.input("fetch").file("packages") / Path(package["path"]).name for package in packages], ready)
    words = [f"{package['name']}={package['version']}" for package in packages]

    def change(root: Path) -> None:
        if packages:
            install(root, packages, ready, words, work=job.work, log=job.log)

    layers.change(job, change)
