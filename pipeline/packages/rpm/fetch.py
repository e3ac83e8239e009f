"""The locked RPM packages, from a mirror into the pool; their signatures are checked where the recipe has keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.packages import lock
from pipeline.packages.given import how_to_give
from pipeline.packages.lock import LockedPackage
from pipeline.packages.pool import Advice, Wanted, into_pool, lacking, out_of_pool
from pipeline.packages.rpm import query
from pipeline.packages.rpm.mirrors import Source, Sources
from pipeline.packages.rpm.signatures import Keys
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: bring every package of the lock into the pool, and show them in `packages/`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    wanted = {_wanted(package): package for package in packages}
    job.pool.mkdir(parents=True, exist_ok=True)
    if missing := lacking(list(wanted), job.pool):  # else its places need not be there
        _bring({item: wanted[item] for item in missing}, job)
    out_of_pool(list(wanted), job.pool, job.out / "packages")
    _require_same(packages, job.out / "packages")
    keys = Keys.of(job)
    if keys.files and wanted:
        keys.require_packages([job.out / "packages" / item.name for item in wanted], job.log)
    # as `sha256sum -c` takes it; and where nothing is wanted there is still an artifact that says so
    (job.out / "SHA256SUMS").write_text("".join(f"{_sha256(item, job.out)}  packages/{item.name}\n" for item in wanted))


def _sha256(item: Wanted, out: Path) -> str:
    if item.sha256:
        return item.sha256
    with (out / "packages" / item.name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wanted(package: LockedPackage) -> Wanted:
    return Wanted(urls=(), name=package.file, size=package.size, sha256=package.sha256, sha1=package.sha1)


def _bring(wanted: Mapping[Wanted, LockedPackage], job: Job) -> None:
    into_pool(
        _found(wanted, job),
        job.pool,
        Advice(
            gone=f"the repository has moved on: `doit update` refreshes the index (of {job.step.name})",
            unreachable=f"check the network, or use another mirror: {how_to_give(str(job.params['distro']))}; "
            "what was fetched is kept, the next run goes on",
        ),
        job.progress,
    )


def _found(wanted: Mapping[Wanted, LockedPackage], job: Job) -> list[Wanted]:
    """Each package with all the places that may have it, those on this machine first."""
    sources = Sources(job.params, job.work, only_sure=False)  # what comes is held against the lock
    found: dict[str, list[Source]] = {}
    for repository in job.params["repositories"]:
        paths = [package.path for package in wanted.values() if package.archive == repository["name"]]
        if paths:
            found[repository["name"]] = sources.of(repository)
            for source in found[repository["name"]]:
                source.bring(paths)
    sources.connections.close()
    return [
        replace(item, urls=tuple(sorted(urls, key=lambda url: not url.startswith("file:"))))
        for item, package in wanted.items()
        for urls in [[source.of(package.path) for source in found[package.archive]]]
    ]


def _require_same(packages: Sequence[LockedPackage], folder: Path) -> None:
    """Raise BuildError unless each file is the package that its metadata, and so the lock, said: a signature is good
    for any package, an old one with holes as well."""
    for package, header in zip(packages, query.headers([folder / one.file for one in packages]), strict=True):
        wanted = f"{package.name} {package.evr} {package.architecture}"
        if str(header) != wanted:
            raise BuildError(
                f"{package.file} is {header}, and its metadata say {wanted}",
                hint="the repository must be mended, or another one used",
            )
