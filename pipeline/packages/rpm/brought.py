"""An rpm from outside, brought along so that it runs inside of a root that has none yet: with its loader and libraries.

A root has its own users, its own links and no way out, so no rpm works on it from outside (`rpm --root`), where scripts
of packages would have a chroot that they can leave.
"""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline import borrowed
from pipeline.errors import BuildError
from pipeline.packages.rpm.install import Rpm
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind

_PLACE = "/run/rpm"
_CONFIGURATION = "usr/lib/rpm"
#: Where suites have the program: the second one until some time after 2005.
_PROGRAMS = ("usr/bin/rpm", "bin/rpm")
#: Where suites have the loader, and libraries: the last ones are Debian's.
_LOADERS = ("lib64/ld-linux-*", "usr/lib64/ld-linux-*", "lib/ld-linux*", "usr/lib/ld-linux*")
_LIBRARIES = ("lib64", "usr/lib64", "lib", "usr/lib", "lib/*-linux-gnu", "usr/lib/*-linux-gnu")
#: Programs of i386 and of x86_64 may have one path, where the second one goes before: as rpm's own macros for x86_64
#: and installers (anaconda's setColor) have it.
_MULTILIB = "_transaction_color 3"
#: Files of macros that count for an installation, below that folder.
_MACROS = ("macros", "platform/*-linux/macros", "redhat/macros")


def of_host(folder: Path) -> Rpm:
    """This machine's, by way of `folder`, which must not exist."""
    loader, files = borrowed.program("rpm")
    folder.mkdir()
    configuration = [Path("/") / _CONFIGURATION / name for name in ("macros", "rpmrc")]
    for source in (*files, *configuration):
        shutil.copy(source, folder / source.name)
    return _rpm(folder, loader, ["."], "rpm", ["macros"], "rpmrc")


def of_suite(tree: Path, machine: str) -> Rpm:
    """A suite's own, where its packages are unpacked; `machine` is its architecture in rpm's words."""
    with RootFs(tree) as inside:
        loaders = _below(inside, _LOADERS)
        program = next((path for path in _PROGRAMS if inside.is_file(path)), "")
        if not loaders or not program:
            raise BuildError("the base packages hold no rpm, or no glibc", hint="add them to packages.base")
        macros = [f"{_CONFIGURATION}/{name.replace('*', machine)}" for name in _MACROS]
        found = [name for name in macros if inside.is_file(name)]
        return _rpm(
            tree,
            _relative(inside, loaders[0]),
            _below(inside, _LIBRARIES),
            program,
            found,
            f"{_CONFIGURATION}/rpmrc",
        )


def _rpm(folder: Path, loader: str, libraries: Sequence[str], program: str, macros: Sequence[str], rc: str) -> Rpm:
    """That of these paths below `folder`; its loader finds libraries there without a word to scripts."""
    return Rpm(
        (
            f"{_PLACE}/{loader}", "--library-path", ":".join(f"{_PLACE}/{name}" for name in libraries),
            f"{_PLACE}/{program}", "--macros", ":".join(f"{_PLACE}/{name}" for name in macros),
            "--rcfile", f"{_PLACE}/{rc}", "--define", _MULTILIB,
        ),
        (Bind(folder, _PLACE),),
    )  # fmt: skip


def _relative(root: RootFs, path: str) -> str:
    """What is meant by a path whose last name may be a link to an absolute one: that begins at another / then."""
    try:
        target = root.readlink(path)
    except OSError:
        return path
    return target.lstrip("/") if target.startswith("/") else path


def _below(root: RootFs, patterns: Sequence[str]) -> list[str]:
    """Paths that there are, in the order of patterns for the last part of a name."""
    found = []
    for pattern in patterns:
        folder, _, last = pattern.rpartition("/")
        found += [f"{folder}/{name}".lstrip("/") for name in root.names(folder or ".") if fnmatch.fnmatch(name, last)]
    return found
