"""The locked packages, from a mirror into the pool."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from pipeline.packages import lock
from pipeline.packages.deb.apt import proxies
from pipeline.packages.deb.mirrors import mirrors_for
from pipeline.packages.lock import LockedPackage
from pipeline.packages.pool import Advice, Wanted, into_pool, lacking, out_of_pool
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: bring every package of the lock into the pool, and show them in `packages/`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    wanted = {Wanted((), package.file, package.size, package.sha256): package for package in packages}
    job.pool.mkdir(parents=True, exist_ok=True)
    if missing := lacking(list(wanted), job.pool):  # else no mirror need be known
        _bring({item: wanted[item] for item in missing}, job)
    out_of_pool(list(wanted), job.pool, job.out / "packages")
    # as `sha256sum -c` takes it; and where nothing is wanted there is still an artifact that says so
    (job.out / "SHA256SUMS").write_text("".join(f"{item.sha256}  packages/{item.name}\n" for item in wanted))


def _bring(wanted: Mapping[Wanted, LockedPackage], job: Job) -> None:
    mirrors = mirrors_for(job.params)
    for name, value in proxies().items():
        os.environ.setdefault(name, value)
    into_pool(
        [
            replace(item, urls=(f"{mirrors.base(package.archive)}/{quote(package.path, safe='/+~')}",))
            for item, package in wanted.items()
        ],
        job.pool,
        Advice(
            gone=f"the archive moved on after it was locked: `doit update` refreshes the index (of {job.step.name})",
            unreachable=f"check the network and the mirror {mirrors.main} (from {mirrors.origin}); "
            "what was fetched is kept, the next run goes on",
        ),
        job.progress,
    )
