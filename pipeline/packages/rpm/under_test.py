"""Packages under test: .rpm files that somebody gives, installed last over all else; nothing else goes for them."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.lock import LockedPackage
from pipeline.packages.rpm import query
from pipeline.packages.rpm.install import install
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the files that `packages` names, installed over all else, as `layer.tar.zst`; and which they are."""
    folder = job.work / "given"
    folder.mkdir()
    given: dict[str, LockedPackage] = {}
    paths = {Path(path).name: path for path, _ in job.step.files}
    for number, name in enumerate(job.params["packages"]):
        source = job.recipes / paths.get(name, name)
        if not source.is_file():
            raise BuildError(f"{source}: no such package file", hint="correct `packages` in the cluster's recipe")
        # a name of ours: rpm takes some for patterns
        package = _described(Path(shutil.copyfile(source, folder / f"{number}.rpm")), source.name)
        if package.name in given:
            raise BuildError(
                f"{source.name}: {package.name} is there twice, {given[package.name].evr} and {package.evr}",
                hint="give it once: `packages` in the cluster's recipe",
            )
        given[package.name] = package

    def change(root: Path) -> None:
        install(root, list(given.values()), folder, place=str(job.params["database"]), log=job.log, under_test=True)

    stacking.change(job, change)
    lock.write_versions(job.out / lock.VERSIONS, {name: package.evr for name, package in given.items()})


def _described(file: Path, called: str) -> LockedPackage:
    """What a package says of itself."""
    try:
        (header,) = query.headers([file])
    except CommandError as error:
        raise BuildError(
            f"{called} is no package that rpm can read",
            tail=error.tail,
            hint="it is damaged, or was not copied to its end: make it anew",
        ) from None
    if header.is_source:
        raise BuildError(f"{called} is a source package", hint="give the packages that are built of it")
    epoch, version, release = lock.parts(header.evr)
    size = file.stat().st_size
    return LockedPackage(header.name, epoch, version, release, header.architecture, "", file.name, size, "", "")
