"""Packages installed in a root by its own rpm: the database is in the form that it wants, scripts mean what they mean.

Scripts find a chroot that is not booted.  What they start ends with them, as all in a sandbox does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import BuildError, CommandError
from pipeline.packages.lock import LockedPackage
from pipeline.packages.rpm import database, keystore
from pipeline.packages.rpm.files import both_have
from pipeline.rootfs import RootFs
from pipeline.sandbox import Bind, chroot_run

#: Where packages are seen inside a root while they are installed.
PACKAGES = "/run/packages"
_DEADLINE = 1800
#: Lines of what it says that a person is shown.
_SHOWN = 12
#: rpm as Debian has it warns that it should not be used; scripts speak no language of the host's.
_QUIET = {"HOME": "/root", "LC_ALL": "C", "RPM_FORCE_DEBIAN": "1", "SYSTEMD_OFFLINE": "1"}
_UNSAID = ("$ unshare ", "# chroot /", "rpm: RPM should not be used directly", "rpm: However assuming you know")
#: What is mounted in a chroot, and not ours to change: the folders themselves were unpacked.
_MOUNTED = ("/dev", "/proc", "/sys")
#: What is installed, a line for each package; keys (gpg-pubkey) have no architecture.
_LISTED = r"installed %{NAME} %|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE} %{ARCH}\n"
_LINE = re.compile(r"^installed (\S+) (?:0:)?(\S+) (?!\(none\))(\S+)$", re.MULTILINE)
#: A script that fails is an error or a warning to rpm, by its kind, and its own status is 0 in the second case.
_FAILED = re.compile(r"(?:error|warning): (%\w+)\((.{1,300}?)\) scriptlet failed, (.*)")
_NOBODY = re.compile(r"^warning: ((?:user|group) \S+ does not exist) - using root$", re.MULTILINE)
#: A shell's own words for a script that goes on without what it wants; to rpm that is no failure.
_NO_COMMAND = re.compile(r"^\S*/rpm-tmp\.\w+: (?:line )?\d+: (.+?: (?:command )?not found)$", re.MULTILINE)
#: What of an archive cannot be unpacked, and of which package; old ones do not say the latter.
_BROKEN = re.compile(r"^error: unpacking of archive failed(?: on file (.+?))?: ((?:cpio: )?[^:\n]+.*)$", re.MULTILINE)
_NOT_INSTALLED = re.compile(r"^error: (\S+): install failed$", re.MULTILINE)
_LACKS = re.compile(r"^[ \t]+(\S.* is needed by .*)$", re.MULTILINE)
#: Of two packages that go in together, and of one that is there already.
_CONFLICT = re.compile(
    r"^[ \t]*file (.+) (?:conflicts between attempted installs of (\S+) and (\S+)"
    r"|from install of (\S+) conflicts with file from package (\S+))$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Rpm:
    """A program in a root, and what must be bound into it for that."""

    words: tuple[str, ...]
    binds: tuple[Bind, ...] = ()

    def run(self, root: Path, options: Sequence[str], log: Path, *binds: Bind) -> str:
        """What it says; raises BuildError when it fails."""
        begin = log.stat().st_size if log.exists() else 0
        words, shown = [*self.words, *options], (*self.binds, *binds)
        try:
            chroot_run(root, words, binds=shown, env=_QUIET, log=log, timeout=_DEADLINE)
        except CommandError as error:
            raise _explained(error, _said(log, begin)) from None
        return _said(log, begin)


def _said(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace")


#: The root's own.
OWN = Rpm(("rpm",))


def install(
    root: Path, packages: Sequence[LockedPackage], folder: Path, *, place: str, log: Path, under_test: bool = False
) -> None:
    """Install packages on top of others, from their files in `folder`; rpm's database is at `place` in the root.

    `under_test`: they go over whatever version is there, newer or the same; nobody else has looked at them before.
    """
    options = ["--oldpackage", "--replacepkgs"] if under_test else ["--nodigest"]
    transact(root, packages, folder, place=place, log=log, options=options)
    settle(root, place=place, log=log)


def transact(
    root: Path,
    packages: Sequence[LockedPackage],
    folder: Path,
    *,
    place: str,
    log: Path,
    options: Sequence[str],
    rpm: Rpm = OWN,
) -> None:
    """Give all of them to an rpm, in one transaction, and judge what it says."""
    # signatures were checked when they were fetched, and what goes together when it was locked
    words = ["--dbpath", place, "--upgrade", "--nosignature", *options, *(f"--excludepath={path}" for path in _MOUNTED)]
    manifest = [f"{PACKAGES}/{package.file}" for package in packages]
    _judge(rpm.run(root, [*words, *manifest], log, Bind(folder, PACKAGES)), log)


def settle(root: Path, *, place: str, log: Path) -> None:
    """Take out what differs from one time to the next."""
    settled = root.resolve() / place.lstrip("/")
    if settled.resolve() != settled:
        raise BuildError(f"{place} is a link in the root", hint="name the folder that it leads to: database = ...")
    database.settle(settled, lambda: OWN.run(root, ["--dbpath", place, "--rebuilddb"], log))
    with RootFs(root) as inside:
        keystore.settle(inside)


def require_listed(root: Path, packages: Sequence[LockedPackage], *, place: str, log: Path) -> None:
    """Raise BuildError unless the root's own rpm lists these packages, and no others."""
    said = OWN.run(root, ["--dbpath", place, "--query", "--all", "--queryformat", _LISTED], log)
    found = set(_LINE.findall(said))
    locked = {(one.name, one.evr, one.architecture) for one in packages}
    if odd := sorted(found ^ locked):
        raise BuildError(
            f"the root's own rpm lists {len(found)} packages, and {len(locked)} were locked",
            tail="\n".join(f"{'missing' if one in locked else 'not locked'}: {' '.join(one)}" for one in odd[:12]),
            hint='it may not read what another one has written: assembler = "justdb" or "target-rpm" in the recipe',
            log=log,
        )


def _judge(said: str, log: Path) -> None:
    """Raise BuildError for what rpm tells of and ends well all the same."""
    if failed := _FAILED.search(said):
        raise _script_failed(failed, said, log)
    if missing := _NOBODY.search(said):
        raise BuildError(
            f"files would be root's: {missing[1]}",
            tail=_excerpt(said),
            hint="a package has to require what makes the user or the group, before it: Requires(pre)",
            log=log,
        )
    if missing := _NO_COMMAND.search(said):
        raise BuildError(
            f"a script of a package did not find what it calls: {missing[1]}",
            tail=_excerpt(said),
            hint="a package has to require what its scripts call, before it: Requires(post)",
            log=log,
        )


def _explained(error: CommandError, said: str) -> BuildError:
    if failed := _FAILED.search(said):
        return _script_failed(failed, said, error.log)
    if lacks := _LACKS.findall(said):
        return BuildError("packages lack what they need", tail="\n".join(lacks[:_SHOWN]), log=error.log)
    if conflicts := [[word for word in found if word] for found in _CONFLICT.findall(said)]:
        tail = "\n".join(f"{path}: {one} and {other}" for path, one, other in conflicts[:_SHOWN])
        path, one, other = conflicts[0]
        return both_have(path, one, other, log=error.log, tail=tail)
    if broken := _BROKEN.search(said):
        package = _NOT_INSTALLED.search(said)
        return BuildError(
            f"{package[1] if package else 'a package'} cannot be unpacked: {broken[2]}",
            tail=_excerpt(said),
            hint=""
            if "space" in broken[2]
            else "its file is damaged, although it has the size and the checksum that "
            "its metadata say: another mirror, or another version; or exclude it in the recipe",
            log=error.log,
        )
    return BuildError(f"rpm failed: {error.message.partition(':')[0]}", tail=_excerpt(said), log=error.log)


def _script_failed(failed: re.Match[str], said: str, log: Path | None) -> BuildError:
    tail = _excerpt(said[: failed.end()])  # much may have been said since
    return BuildError(f"{failed[2]}: its script {failed[1]} failed: {failed[3]}", tail=tail, log=log)


def _excerpt(said: str) -> str:
    """The last lines, but for our own command lines and Debian's warning."""
    lines = [line for line in said.strip().splitlines() if not line.startswith(_UNSAID)]
    return "\n".join(lines[-_SHOWN:])
