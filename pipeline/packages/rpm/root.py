"""The base root of an RPM distribution: the locked packages, installed into nothing as its recipe says: one layer."""

from __future__ import annotations

from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm.assemblers import ASSEMBLERS, Base
from pipeline.packages.rpm.install import require_listed, settle
from pipeline.rootfs import RootFs
from pipeline.step import Job


def build(job: Job) -> None:
    """Builder: all packages of the distribution's lock as `layer.tar.zst`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    fetched = job.input("fetch").file("packages")
    if not any(package.name == "rpm" for package in packages):
        raise BuildError(
            "the base packages do not hold rpm, which installs others on top of them",
            hint="add rpm to packages.base of the recipe",
        )
    place = str(job.params["database"])
    with stacking.changed(job) as root:
        base = Base(root, packages, fetched, place, job.params["architecture"], job.work, job.log,
                    job.params.get("files", {}))  # fmt: skip
        ASSEMBLERS[job.params["assembler"]](base)
        require_listed(root, packages, place=place, log=job.log)
        settle(root, place=place, log=job.log)
        with RootFs(root) as inside:
            _make_neutral(inside)


def _make_neutral(root: RootFs) -> None:
    """Take out what belongs to one machine."""
    for name in ("etc/hostname", "etc/resolv.conf", "var/lib/systemd/random-seed"):
        root.remove(name)
    # Empty and not "uninitialized": systemd then takes no start for the first one, and leaves presets as they are
    root.write("etc/machine-id", "", 0o444)
