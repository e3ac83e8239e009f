"""Packages unpacked over each other and not installed: no script runs, the same packages always give the same tree."""

from __future__ import annotations

from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm.files import extract
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: all packages of the lock unpacked over each other, as `layer.tar.zst`."""
    root = job.work / "root"
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    fetched = job.input("fetch").file("packages")
    packages = lock.read(job.input("lock").file(lock.NAME))
    extract([fetched / package.file for package in packages], root, job.work)
    stacking.write(job, root, None)
