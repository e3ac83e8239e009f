"""The base root of a distribution, kernel included: the locked packages, installed into nothing, as one layer.

This is what debootstrap and mmdebstrap do, from a lock: unpack the essential packages, have dpkg install them
properly inside, then let apt install the rest.  Done here it is confined like all foreign code, gives the same bytes
whatever tools the host has, and takes its time from the packages alone.  No ramdisk is made, then or ever: that is
an artifact of its own.  Nothing of the machine that builds, and nothing that must differ between machines, stays.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import CommandError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.deb.complaints import explained
from pipeline.packages.deb.files import PROGRAMS, READY, decompressing, extract
from pipeline.packages.deb.install import PACKAGES, QUIET, install
from pipeline.packages.deb.stanzas import Stanza
from pipeline.packages.lock import LockedPackage
from pipeline.rootfs import RootFs
from pipeline.sandbox import PATH, Bind, chroot_run
from pipeline.step import Job

#: Architectures whose loader lies in /lib64.
_LIB64 = ("amd64", "loong64", "ppc64el")
_DEADLINE = 900
#: ssl-cert makes a certificate when it is installed, which is one machine's: no layer keeps it or its key.
_CERTIFICATE = "etc/systemd/system/own-certificate.service"
_MAKE_CERTIFICATE = """[Unit]
Description=This machine's own certificate
ConditionPathExists=/usr/sbin/make-ssl-cert
ConditionPathExists=!/etc/ssl/private/ssl-cert-snakeoil.key
DefaultDependencies=no
After=local-fs.target systemd-tmpfiles-setup.service
Before=sysinit.target

[Service]
Type=oneshot
ExecStart=/usr/sbin/make-ssl-cert generate-default-snakeoil
"""
_NAME = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)")


def build(job: Job) -> None:
    """Builder: all packages of the distribution's lock as `layer.tar.zst`."""
    packages = lock.read(job.input("lock").file(lock.NAME))
    fetched = job.input("fetch").file("packages")
    first = essential(packages)
    rest = [package for package in packages if package not in first]
    ready = job.work / "ready"
    with stacking.changed(job) as root, RootFs(root) as inside:
        if any(package.name in ("usr-is-merged", "usrmerge") for package in packages):
            _merge_usr(inside, str(job.params["architecture"]))
        with decompressing([fetched / package.file for package in (*first, *rest)], ready):
            extract([ready / package.file for package in first], root)
            _install_essential(job, root, [package.file for package in first], fetched, ready)
            if rest:
                names = [package.name for package in rest]
                install(root, rest, fetched, names, work=job.work, log=job.log, ready=ready)
        _make_neutral(inside)


def essential(packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """What must be there before a package can be installed properly: essential packages, apt, and what they need."""
    by_name = {package.name: package for package in packages}
    stanzas = {name: Stanza(package.text) for name, package in by_name.items()}
    providers: dict[str, str] = {}
    for name, stanza in stanzas.items():
        for provided in stanza.get("Provides").split(","):
            if match := _NAME.match(provided):
                providers.setdefault(match[1], name)
    todo = ["apt", *(name for name, stanza in stanzas.items() if stanza.get("Essential") == "yes")]
    chosen: set[str] = set()
    while todo:
        name = todo.pop()
        if name in chosen or name not in by_name:
            continue
        chosen.add(name)
        wanted = ",".join(stanzas[name].get(field) for field in ("Pre-Depends", "Depends"))
        for alternatives in wanted.split(","):
            names = [match[1] for match in map(_NAME.match, alternatives.split("|")) if match]
            there = [other if other in by_name else providers.get(other, "") for other in names]
            todo += [other for other in there if other][:1]
    return [package for package in packages if package.name in chosen]


def _merge_usr(root: RootFs, architecture: str) -> None:
    """/bin and its kin are links to /usr, before the first package brings files for them."""
    for name in ("bin", "sbin", "lib", *(["lib64"] if architecture in _LIB64 else [])):
        root.make_folder(f"usr/{name}")
        root.link(name, f"usr/{name}")


def _install_essential(job: Job, root: Path, files: Sequence[str], fetched: Path, ready: Path) -> None:
    """Have dpkg install what `extract` has only unpacked; each needs others of them, hence the force."""
    with RootFs(root) as inside:
        for name in ("status", "available"):
            inside.write(f"/var/lib/dpkg/{name}", "")
    argv = ["dpkg", "--force-depends", "--force-unsafe-io", "--install", *(f"{PACKAGES}/{name}" for name in files)]
    binds = [Bind(fetched, PACKAGES), Bind(ready, READY)]
    env = {**QUIET, "PATH": f"{PROGRAMS}:{PATH}"}
    try:
        chroot_run(root, argv, binds=binds, env=env, log=job.log, timeout=_DEADLINE)
    except CommandError as error:
        raise explained(error, files) from None


def _make_neutral(root: RootFs) -> None:
    """Take out what belongs to one machine, and keep later layers from making ramdisks."""
    for name in ("etc/hostname", "etc/resolv.conf"):
        root.remove(name)
    # Empty and not "uninitialized": systemd then takes no start for the first one, and leaves presets as they are
    root.write("etc/machine-id", "", 0o444)
    # All that systemd brings up to date at a start was made by the packages' scripts: the first start need not do it
    for name in ("etc/.updated", "var/.updated"):
        root.write(name, "")
    root.write(_CERTIFICATE, _MAKE_CERTIFICATE)
    root.link(f"etc/systemd/system/sysinit.target.wants/{_CERTIFICATE.rpartition('/')[2]}", f"/{_CERTIFICATE}")
    initramfs = "etc/initramfs-tools/update-initramfs.conf"
    if root.is_file(initramfs):
        root.write(initramfs, "# The ramdisk is an artifact of its own.\nupdate_initramfs=no\nbackup_initramfs=no\n")
