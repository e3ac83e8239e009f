"""What the builders for Debian share: locked packages as a repository, and a root in which installing is quiet.

Maintainer scripts meet what they meet under debootstrap and mmdebstrap: a chroot that is not booted, in which nothing
starts services, whichever way it is asked to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CommandError
from pipeline.packages.deb.complaints import explained
from pipeline.packages.deb.files import PROGRAMS, READY
from pipeline.packages.lock import LockedPackage
from pipeline.sandbox import PATH, Bind, chroot_run

#: Maintainer scripts ask nothing, and are root's; the kernel's make no ramdisk: that is an artifact of its own.
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "INITRD": "No",
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "SHELL": "/bin/sh",
}

#: Where packages are seen inside a root while they are installed, and the private apt that does it.
PACKAGES = "/run/packages"
_APT = "/run/locked"
_DEADLINE = 900

#: Until apt has installed, nothing starts a service, neither by invoke-rc.d nor by start-stop-daemon.  Both files are
#: diverted, so that packages which bring them (dpkg itself, policyrcd-script-zg2) can be installed meanwhile.
_INSTALL = r"""
quiet() {
    dpkg-divert --quiet --local --no-rename --divert "$1.distrib" --add "$1"
    [ ! -e "$1" ] || mv "$1" "$1.distrib"
    printf '#!/bin/sh\n%s\n' "$2" > "$1"
    chmod 755 "$1"
}
loud() {
    rm -f "$1"
    [ ! -e "$1.distrib" ] || mv "$1.distrib" "$1"
    dpkg-divert --quiet --local --no-rename --remove "$1"
}
starter=$(grep -x '.*/sbin/start-stop-daemon' /var/lib/dpkg/info/dpkg.list)
quiet /usr/sbin/policy-rc.d 'exit 101'
quiet "$starter" 'echo "start-stop-daemon: nothing is started while a root is built"'
apt-get -qq update
apt-get -q install "$@"
loud "$starter"
loud /usr/sbin/policy-rc.d
"""


def install(
    root: Path,
    packages: Sequence[LockedPackage],
    folder: Path,
    words: Sequence[str],
    *,
    work: Path,
    log: Path,
    ready: Path | None = None,
) -> None:
    """Install `words` in `root` by its own apt, from the files of these locked packages in `folder`.

    `ready` is where their content is being decompressed (`files.decompressing`), if it is.
    Everything that apt itself keeps (lists, caches, logs) is outside of the root.
    """
    state = work / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "log"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "Packages").write_text(_index(packages))
    (state / "sources.list").write_text(f"deb [trusted=yes] file:{_APT} ./\n")
    (state / "install").write_text(_INSTALL)
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
APT::Get::Remove "false";
APT::Get::Assume-Yes "true";
APT::Sandbox::User "root";
Acquire::Languages "none";
DPkg::Use-Pty "false";
DPkg::Path "{PROGRAMS}:{PATH}";
DPkg::Install::Recursive::Minimum "1000000";
DPkg::Options:: "--force-unsafe-io";
DPkg::Options:: "--force-confnew";
""")
    binds = [Bind(state, _APT, writable=True), Bind(folder, PACKAGES), *([Bind(ready, READY)] if ready else [])]
    env = {**QUIET, "APT_CONFIG": f"{_APT}/apt.conf"}
    try:
        chroot_run(root, ["sh", "-e", f"{_APT}/install", *words], binds=binds, env=env, log=log, timeout=_DEADLINE)
    except CommandError as error:
        raise explained(error, words) from None


def _index(packages: Sequence[LockedPackage]) -> str:
    """The archive's own stanzas of these packages, with the place where their files are seen.

    An index made from the files would lack what only the archive says (which packages are essential or required).
    """
    stanzas = []
    for package in packages:
        kept = re.sub(r"^Filename:.*\n", "", package.text, flags=re.MULTILINE).rstrip("\n")
        stanzas.append(f"{kept}\nFilename: ..{PACKAGES.removeprefix('/run')}/{package.file}\n")
    return "\n".join(stanzas)
