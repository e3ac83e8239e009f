"""What apt and dpkg say when something cannot be installed, as a person wants to read it.

They say it at the end of a long log, which names the package, the file and the script; a hint is given only where what
they say leaves no doubt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import BuildError, CommandError

#: How much of the end of a log is looked at, in bytes; and the most lines of it that are shown.
_READ = 1 << 18
_LINES = 15

_FAILED = re.compile(r"^dpkg: error processing (?:package|archive) (\S+) \(--\S+\):\n (.*(?:\n  .*)*)", re.MULTILINE)
_BEGUN = re.compile(r"^(?:Preparing to unpack|Unpacking|Setting up|Processing triggers for|Removing) ", re.MULTILINE)
_UNMET = "The following packages have unmet dependencies:\n"
_ESSENTIAL = re.compile(r"^WARNING: The following essential packages will be removed\..*\n.*\n((?:  .*\n)+)", re.M)

_REMOVED = re.compile(r"^The following packages will be REMOVED:\n((?:  .*\n)+)", re.MULTILINE)

_HINTS = (
    (
        r"trying to overwrite",
        "two packages bring the same file: one of them must leave it out, divert it, or say `Replaces`",
    ),
    (
        r"[Tt]emporary failure in name resolution|[Cc]ould not resolve|[Nn]etwork is (?:unreachable|down)",
        "there is no network while a root is built: what the script fetches must be in a package, or come by an OPKG",
    ),
    (
        r"mknod: .*not permitted|mount: .*denied|must be superuser|denied on key|/proc/sys/.*(?:denied|Read-only)",
        "a script cannot make devices, mount or change the kernel's settings while a root is built",
    ),
    (r"architecture .* does not match system", "give the package that was built for the machines' architecture"),
    (
        r"subprocess .*returned error",
        "scripts of packages run in a chroot that is not booted, as root, without network",
    ),
)


class Removal(BuildError):
    """Packages of the root would have to go; `names` are theirs."""

    names: list[str]


def explained(error: CommandError, words: Sequence[str]) -> BuildError:
    """Why `words` (packages, files and options of apt) could not be installed."""
    said = _end(error)
    names = [Path(word).name for word in words if not word.startswith("-")]
    what = ", ".join(names) if len(names) < 6 else f"{len(names)} packages"
    if error.message.startswith("no end after"):
        return BuildError(
            f"installing {what}: {error.message.partition(':')[0]}",
            log=error.log,
            tail=_excerpt(said),
            hint="a script waits for what it will not get: an answer, the network, the end of a service "
            "that it started in the foreground",
        )
    if _UNMET in said:
        return _unmet(what, said.rpartition(_UNMET)[2], error.log)
    if match := _REMOVED.search(said):
        return _removal(what, match[1].split(), error.log)
    if match := _ESSENTIAL.search(said):
        return BuildError(
            f"{what} would remove what no machine can do without: {' '.join(match[1].split())}",
            log=error.log,
            hint="a package under test may not conflict with essential packages",
        )
    if match := _FAILED.search(said):
        return BuildError(
            f"installing {Path(match[1]).name} failed: {match[2]}",
            log=error.log,
            tail=_excerpt(said[: match.start()]),
            hint=_hint(said[: match.end()]),
        )
    return BuildError(f"installing {what} failed", log=error.log, tail=_excerpt(said), hint=_hint(said))


def _removal(what: str, words: Sequence[str], log: Path | None) -> Removal:
    names = [word.rstrip("*").partition(":")[0] for word in words]
    error = Removal(f"{what} would remove {', '.join(names)}", log=log)
    error.names = names
    return error


def _unmet(what: str, reasons: str, log: Path | None) -> BuildError:
    missing = re.search(r"\b(?:Pre)?Depends: ", reasons)
    return BuildError(
        f"{what} cannot be installed on top of the locked packages",
        log=log,
        tail=reasons,
        hint="what they depend on must be among the packages of the distribution or of an OPKG"
        if missing
        else "a package under test may not conflict with what machines cannot do without",
    )


def _end(error: CommandError) -> str:
    """The end of the log: what the last command said."""
    if error.log is None:
        return error.tail
    with error.log.open("rb") as file:
        file.seek(max(0, error.log.stat().st_size - _READ))
        said = file.read().decode("utf-8", "replace").rpartition("\n# chroot ")[2]
    return said.partition("\n$ ")[2].partition("\n")[2] or said


def _excerpt(said: str) -> str:
    """What was said since the last package was begun with."""
    begun = [match.start() for match in _BEGUN.finditer(said)]
    return "\n".join((said[begun[-1] :] if begun else said).splitlines()[-_LINES:])


def _hint(said: str) -> str:
    excerpt = _excerpt(said)
    return next((hint for pattern, hint in _HINTS if re.search(pattern, excerpt)), "")
