"""Who installs the locked packages into nothing; with the root that this gives, layers go on by its own rpm.

A recipe says which one its suite wants.  All give the same root.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import BuildError
from pipeline.packages.lock import LockedPackage
from pipeline.packages.rpm import brought
from pipeline.packages.rpm.files import extract
from pipeline.packages.rpm.install import OWN, Rpm, transact
from pipeline.rootfs import IN_THE_WAY, RootFs

#: The packages that are unpacked before all others are installed: folders, and the users and groups of files.
_FIRST = ("filesystem", "setup")
#: A place that each sandbox has for itself.
_PASSING = "/run/database"


@dataclass(frozen=True)
class Base:
    """What there is to do: `packages`, whose files are in `fetched`, into `root`; rpm's database shall be at `place`
    in there.  `architecture` is in rpm's words.  `work` is scratch space.  `files` are texts that stand there first, by
    path."""

    root: Path
    packages: Sequence[LockedPackage]
    fetched: Path
    place: str
    architecture: str
    work: Path
    log: Path
    files: Mapping[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """Make what is there before the first package: folders, users and groups; what mounts want; and the recipe's
        files."""
        self.unpack(self.root, [one for one in self.packages if one.name in _FIRST])
        with RootFs(self.root) as inside:
            for name in ("dev", "proc", "run", "sys", "tmp"):
                inside.make_folder(name)
            for path, text in self.files.items():
                _write(inside, path, text)

    def unpack(self, tree: Path, packages: Sequence[LockedPackage]) -> None:
        extract([self.fetched / one.file for one in packages], tree, self.work)

    def install(self, rpm: Rpm, place: str, *options: str) -> None:
        """Give all packages to an rpm, over what is there."""
        words = ["--nodigest", *options]
        transact(self.root, self.packages, self.fetched, place=place, log=self.log, options=words, rpm=rpm)


def _write(root: RootFs, path: str, text: str) -> None:
    try:
        root.write(path, text)
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
        raise BuildError(
            f"the recipe's file {path} cannot be put into the root: {IN_THE_WAY[error.errno]}",
            hint="correct it in files = {...} of the distribution's recipe: the package filesystem, or setup, has made "
            "what is there, or another one of these files",
        ) from None


def _target_rpm(base: Base) -> None:
    """By the suite's own rpm, out of a tree in which all packages are unpacked, and which goes then.

    It knows what its packages mean, old ones and those newer than this machine's rpm.
    """
    tree = base.work / "unpacked"
    tree.mkdir()
    base.unpack(tree, base.packages)
    base.begin()
    base.install(brought.of_suite(tree, base.architecture), base.place)
    shutil.rmtree(tree)


def _host_rpm(base: Base) -> None:
    """By this machine's rpm, if the suite's own reads its database: nothing is unpacked twice."""
    base.begin()
    base.install(brought.of_host(base.work / "rpm"), base.place)


def _justdb(base: Base) -> None:
    """By this machine's rpm with a database that passes away, and the suite's own notes in one of its kind what is
    there."""
    base.begin()
    base.install(brought.of_host(base.work / "rpm"), _PASSING)
    OWN.run(base.root, ["--dbpath", base.place, "--initdb"], base.log)
    base.install(OWN, base.place, "--justdb", "--noscripts", "--notriggers")


#: By the name that recipes have for it.
ASSEMBLERS: Mapping[str, Callable[[Base], None]] = {
    "target-rpm": _target_rpm,
    "host-rpm": _host_rpm,
    "justdb": _justdb,
}
