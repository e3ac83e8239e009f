"""Packages installed in a root by its own rpm: the database is in the form that it wants, scripts mean what they mean.

Scripts find a chroot that is not booted.  What they start ends with them, as all in a sandbox does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.packages.lock import LockedPackage
from pipeline.packages.rpm import database, keystore
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind, chroot_run

#: Where packages are seen inside a root while they are installed.
PACKAGES = "/run/packages"
_DEADLINE = 1800
#: rpm as Debian has it warns that it should not be used; scripts speak no language of the host's.
_QUIET = {"HOME": "/root", "LC_ALL": "C", "RPM_FORCE_DEBIAN": "1", "SYSTEMD_OFFLINE": "1"}
#: What is mounted in a chroot, and not ours to change: the folders themselves were unpacked.
_MOUNTED = ("/dev", "/proc", "/sys")
#: A script that fails is an error or a warning to rpm, by its kind, and its own status is 0 in the second case.
_FAILED = re.compile(r"(?:error|warning): (%\w+)\((.*?)\) scriptlet failed, (.*)")
_LACKS = re.compile(r"^\s+(\S.* is needed by .*)$", re.MULTILINE)


def install(
    root: Path,
    packages: Sequence[LockedPackage],
    folder: Path,
    *,
    place: str,
    log: Path,
    fresh: bool = False,
    under_test: bool = False,
) -> None:
    """Install all of them in one transaction, from their files in `folder`.

    `place` is the folder of the database in the root.  `fresh`: there is none yet, and the files are there, unpacked.
    `under_test`: they go over whatever version is there, newer or the same.
    """
    words = ["rpm", "--dbpath", place]
    binds = [Bind(folder, PACKAGES)]
    if fresh:
        _run(root, [*words, "--initdb"], binds, log)
    manifest = [f"{PACKAGES}/{package.file}" for package in packages]
    # signatures were checked when they were fetched, and what goes together when it was locked
    options = [
        "--upgrade",
        "--nosignature",
        *(f"--excludepath={path}" for path in _MOUNTED),
        *(["--force"] if fresh or under_test else []),
    ]
    begin = log.stat().st_size if log.exists() else 0
    _run(root, [*words, *options, *manifest], binds, log)
    with log.open("rb") as file:
        file.seek(begin)
        said = file.read().decode(errors="replace")
    if failed := _FAILED.search(said):
        raise BuildError(f"{failed[2]}: its script {failed[1]} failed: {failed[3]}", tail=_excerpt(said), log=log)
    settled = root.resolve() / place.lstrip("/")
    if settled.resolve() != settled:
        raise BuildError(f"{place} is a link in the root", hint="name the folder that it leads to: database = ...")
    database.settle(settled, lambda: _run(root, [*words, "--rebuilddb"], binds, log))
    with RootFs(root) as inside:
        keystore.settle(inside)


def _run(root: Path, argv: Sequence[str], binds: Sequence[Bind], log: Path) -> None:
    try:
        chroot_run(root, argv, binds=binds, env=_QUIET, log=log, timeout=_DEADLINE)
    except CommandError as error:
        raise _explained(error) from None


def _explained(error: CommandError) -> BuildError:
    said = error.tail
    if failed := _FAILED.search(said):
        return BuildError(f"{failed[2]}: its script {failed[1]} failed: {failed[3]}", tail=said, log=error.log)
    if lacks := _LACKS.findall(said):
        return BuildError("packages lack what they need", tail="\n".join(lacks), log=error.log)
    return BuildError(f"rpm failed: {error.message.partition(':')[0]}", tail=_excerpt(said), log=error.log)


def _excerpt(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-12:])
