"""Packages under test: .deb files that somebody gives, installed last: a new one then costs a fraction of a second."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.build import layers
from pipeline.build.debian import PACKAGES, install
from pipeline.errors import BuildError
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: the files that `packages` names, installed over all else, as `layer.tar.zst`."""
    folder = job.work / "given"
    folder.mkdir()
    names = []
    given = {Path(path).name: path for path, _ in job.step.files}
    for name in job.params["packages"]:
        source = job.recipes / given.get(name, name)
        if not source.is_file():
            raise BuildError(f"{source}: no such package file", hint="correct `packages` in the cluster's recipe")
        shutil.copyfile(source, folder / source.name)
        names.append(f"{PACKAGES}/{source.name}")
    words = ["--allow-downgrades", "--reinstall", *names]
    layers.change(job, lambda root: install(root, [], folder, words, work=job.work, log=job.log))
