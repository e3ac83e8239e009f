"""The base root of a distribution, kernel included: the locked packages, installed into nothing, as one layer.

mmdebstrap does it in memory from the locked files.  It makes no ramdisk, then or ever: that is an artifact of its
own.  Nothing of the machine that builds it, and nothing that must differ between machines, stays in it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline.build import layers
from pipeline.build.debian import QUIET, packages_index
from pipeline.families.deb import locked
from pipeline.run import run
from pipeline.step import Job

#: What belongs to one machine, to the building one, or to the bootstrap itself.
_NOT_OURS = (
    "etc/hostname", "etc/resolv.conf", "etc/hosts", "etc/apt/sources.list", "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap", "var/lib/systemd/random-seed",
)


def build(job: Job) -> None:
    """Builder: all packages of the distribution's lock as `layer.tar.zst`."""
    packages = locked(job.input("lock").file("lock.json"))
    suite = str(job.params["suite"])
    pool = _repository(job, packages, suite)
    with layers.changed(job) as root:
        run(["mmdebstrap", "--mode=root", "--variant=minbase", f"--architectures={job.params['architecture']}",
             "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--dpkgopt=force-unsafe-io", "--format=directory",
             f"--include={','.join(package['name'] for package in packages)}",
             suite, root, f"deb [trusted=yes] copy:{pool} {suite} main"],
            env={**QUIET, "TMPDIR": str(job.work)}, log=job.log, timeout=1200)
        make_neutral(root)


def _repository(job: Job, packages: list[dict[str, Any]], suite: str) -> Path:
    """The locked packages as an archive that mmdebstrap takes."""
    archive = job.work / "archive"
    binary = archive / "dists" / suite / "main" / f"binary-{job.params['architecture']}"
    binary.mkdir(parents=True)
    (archive / "pool").symlink_to(job.input("fetch").path / "packages")
    (binary / "Packages").write_text(packages_index(packages, "pool/"))
    (archive / "dists" / suite / "Release").write_text(
        f"Suite: {suite}\nCodename: {suite}\nArchitectures: {job.params['architecture']}\nComponents: main\n")
    return archive


def make_neutral(root: Path) -> None:
    """Take out what belongs to a machine, and keep later layers from making ramdisks."""
    for name in _NOT_OURS:
        (root / name).unlink(missing_ok=True)
    # Empty and not "uninitialized": systemd then takes no start for the first one, and leaves presets as they are
    (root / "etc/machine-id").write_text("")
    initramfs = root / "etc/initramfs-tools/update-initramfs.conf"
    if initramfs.exists():
        initramfs.write_text("# The ramdisk is an artifact of its own.\nupdate_initramfs=no\nbackup_initramfs=no\n")
    for name in ("var/lib/apt/lists", "var/cache/apt"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
