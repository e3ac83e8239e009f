"""All locked distribution packages of one side of a cluster, as one layer.

One layer and not one an OPKG: layers of packages that don't know of each other hide each other's entries in the
package database and give the same user id twice.
"""

from __future__ import annotations

from pipeline.build import layers
from pipeline.build.debian import install, installed_index
from pipeline.families.deb import locked
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the lock's packages installed on top of the layers below, as `layer.tar.zst`."""
    packages = locked(job.input("lock").file("lock.json"))
    with layers.changed(job) as root:
        if packages:
            install(root, installed_index(packages), job.input("fetch").file("packages"),
                    [f"{package['name']}={package['version']}" for package in packages], work=job.work, log=job.log)
