"""The base root of an RPM distribution: the locked packages, installed into nothing by their own rpm, as one layer.

First all of them are unpacked, so that the suite's rpm and what its scripts call is there; then that rpm installs them
over it, which gives owners, capabilities and a database of its own kind.  No other suite's rpm can do both: newer ones
write databases that older ones don't read.
"""

from __future__ import annotations

from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm.files import extract
from pipeline.packages.rpm.install import install
from pipeline.rootfs import RootFs
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: all packages of the distribution's lock as `layer.tar.zst`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    fetched = job.input("fetch").file("packages")
    if not any(package.name == "rpm" for package in packages):
        raise BuildError(
            "the base packages do not hold rpm, which installs them", hint="add rpm to packages.base of the recipe"
        )
    with stacking.changed(job) as root, RootFs(root) as inside:
        extract([fetched / package.file for package in packages], root, job.work)
        # as installers make it before the first package: scripts of %pre and %post expect it
        for name in ("dev", "proc", "run", "sys", "tmp"):
            inside.make_folder(name)
        for path, text in job.params.get("files", {}).items():
            inside.write(path, text)
        install(root, packages, fetched, place=str(job.params["database"]), log=job.log, fresh=True)
        _make_neutral(inside)


def _make_neutral(root: RootFs) -> None:
    """Take out what belongs to one machine."""
    for name in ("etc/hostname", "etc/resolv.conf", "var/lib/systemd/random-seed"):
        root.remove(name)
    # Empty and not "uninitialized": systemd then takes no start for the first one, and leaves presets as they are
    root.write("etc/machine-id", "", 0o444)
