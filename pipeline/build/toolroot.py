"""The tool root: build tools of locked versions, unpacked and not installed, so that no host's versions matter.

No maintainer script runs: the tools need none, and the same packages always give the same tree.
"""

from __future__ import annotations

from pipeline.build import layers
from pipeline.families.deb import locked
from pipeline.run import run
from pipeline.step import Job

#: What the base-files package would bring; without them the first package to come makes folders of them.
_MERGED = ("bin", "sbin", "lib", "lib64")


def build(job: Job) -> None:
    """Builder: all packages of the lock unpacked over each other, as `layer.tar.zst`."""
    root = job.work / "root"
    root.mkdir()
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "run", "sys", "tmp"):
        (root / name).mkdir()
    packages = locked(job.input("lock").file("lock.json"))
    for number, package in enumerate(packages):
        job.progress(number, len(packages), "packages")
        # keeping links to folders as dpkg does, which dpkg-deb --extract would replace by folders
        run(["sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "unpack",
                       job.input("fetch").file(f"packages/{package['path'].rpartition('/')[2]}"), root], timeout=300)
    layers.write(job, root, None)
