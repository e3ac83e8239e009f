"""What the builders for Debian share: locked packages as a repository, and a root in which installing is quiet."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError, CommandError
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind, chroot_run

#: Maintainer scripts ask nothing; the kernel's make no ramdisk: that is an artifact of its own.
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "DEBCONF_NONINTERACTIVE_SEEN": "true", "INITRD": "No"}

#: Where packages are seen inside a root while they are installed, and the private apt that does it.
PACKAGES = "/run/packages"
_APT = "/run/locked"
_DEADLINE = 900
#: What invoke-rc.d asks before it starts a service.
_POLICY = "/usr/sbin/policy-rc.d"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def no_daemons(root: Path) -> Iterator[None]:
    """While the block lasts maintainer scripts in `root` start no services."""
    with RootFs(root) as inside:
        inside.write(_POLICY, "#!/bin/sh\nexit 101\n", 0o755)
        try:
            yield
        finally:
            inside.remove(_POLICY)


def install(root: Path, packages: Sequence[dict[str, Any]], folder: Path, words: Sequence[str], *,
            work: Path, log: Path) -> None:
    """Install `words` in `root` by its own apt, from the files of these locked packages in `folder`.

    Everything that apt itself keeps (lists, caches, logs) is outside of the root.
    """
    state = work / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "Packages").write_text(_index(packages, folder))
    (state / "sources.list").write_text(f"deb [trusted=yes] file:{_APT} ./\n")
    (state / "apt.conf").write_text(f"""
Dir::State "{_APT}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{_APT}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "{_APT}/log";
Dir::Etc::sourcelist "{_APT}/sources.list";
Dir::Etc::sourceparts "/dev/null";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
Acquire::Languages "none";
DPkg::Use-Pty "false";
DPkg::Options:: "--force-unsafe-io";
DPkg::Options:: "--force-confnew";
""")
    binds = [Bind(state, _APT, writable=True), Bind(folder, PACKAGES)]
    env = {**QUIET, "APT_CONFIG": f"{_APT}/apt.conf"}
    with no_daemons(root):
        try:
            chroot_run(root, ["sh", "-ec", 'apt-get -qq update; exec apt-get -q install "$@"', "sh", *words],
                       binds=binds, env=env, log=log, timeout=_DEADLINE)
        except CommandError as error:
            raise _explained(error, words) from None


def _explained(error: CommandError, words: Sequence[str]) -> BuildError:
    """apt's failure as a person wants to read it."""
    _, unmet, reasons = error.tail.rpartition("The following packages have unmet dependencies:\n")
    names = [Path(word).name for word in words if not word.startswith("-")]
    what = ", ".join(names) if len(names) < 6 else f"{len(names)} packages"
    if unmet:
        return BuildError(f"{what} cannot be installed on top of the locked packages", tail=reasons, log=error.log,
                          hint="what they depend on must be among the packages of the distribution or of an OPKG")
    return BuildError(f"installing {what} failed", tail=error.tail, log=error.log,
                      hint="the last lines name the package whose script failed")


def _index(packages: Sequence[dict[str, Any]], folder: Path) -> str:
    """The archive's own stanzas of these packages, for the files in `folder`.

    An index made from the files would lack what only the archive says (which packages are essential or required).
    The files were checked when they were fetched; decompressed since then, they have other checksums.
    """
    stanzas = []
    for package in packages:
        name = Path(package["path"]).name
        kept = re.sub(r"^(Filename|Size|SHA256):.*\n", "", package["stanza"], flags=re.MULTILINE)
        stanzas.append(f"{kept}Filename: ..{PACKAGES.removeprefix('/run')}/{name}\n"
                       f"Size: {(folder / name).stat().st_size}\nSHA256: {_sha256(folder / name)}\n")
    return "\n".join(stanzas)
