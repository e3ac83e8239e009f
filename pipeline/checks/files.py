"""A machine's files against what it was made from: a node's against the SIS image, the head node's against its disk.

Compared is all that is kept of a file on its way there.  Every difference is reported unless the table below or the
machine's flavour knows it, and each row says why a healthy machine differs at that place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType

from pipeline import listing
from pipeline.builders.image import checksum_line
from pipeline.description import Role
from pipeline.guests.guest import OWN, Kind, Known
from pipeline.inventory import Changes, Entry, Tree, shown
from pipeline.listing import names_of_one_file
from pipeline.packages.family import Family

#: Where a file that was not there before matters.  Elsewhere (/var, /home, /root, /srv) a running system makes its own.
_SYSTEM = ("usr", "etc", "boot", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Difference:
    """A path that differs; `known` is the reason when the table has one."""

    path: str
    kind: Kind
    detail: str
    known: str | None

    @property
    def shown(self) -> str:
        return shown(self.path) or "/"


_ANY: tuple[Kind, ...] = ("content", "metadata", "missing", "added")

KNOWN: tuple[Known, ...] = (
    Known("etc/fstab", OWN, "the node's own partitions"),
    Known("etc/hostname", OWN, "the node's name"),
    Known("boot/grub", ("added",), "the node's boot menu"),
    Known("boot/grub/grub.cfg", OWN, "the node's boot menu"),
    Known("etc/hosts", OWN, "the cluster's names"),
    Known("etc/oscar/**", OWN, "the cluster's names"),
    Known("etc/ssh/ssh_host_*", OWN, "identity of the node"),
    Known("etc/ssh/ssh_known_hosts", OWN, "host keys of the cluster"),
    Known("dev/**", _ANY, "the kernel's devices hide it"),
    Known("proc/**", _ANY, "the kernel's processes hide it"),
    Known("sys/**", _ANY, "the kernel's devices hide it"),
    Known("run/**", _ANY, "in memory while the node runs"),
    Known("tmp/**", _ANY, "emptied at boot"),
    Known("var/tmp/**", _ANY, "cleaned by age"),
    Known("var/log/**", _ANY, "logs"),
    Known("var/cache/**", _ANY, "caches"),
    Known("var/spool/**", ("content", "metadata"), "work of the services"),
    Known("var/lib/*/**", ("content", "metadata"), "state of the services"),
    Known("*/lost+found", ("added",), "made with the file system"),
)


def compare(
    made: Tree,
    found: Tree,
    sums: Mapping[str, str],
    role: Role,
    own: Sequence[Known],
    family: Family,
    configured: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Difference, ...]:
    """All differences of a machine from what it was made from, sorted by path.  `sums` are the checksums found, where
    they are not the right ones; `own` are known differences of such a cluster's machines, `configured` is path -> who
    changed it when the machine was made already."""
    known = (*KNOWN, *own)
    names, names_found = _other_names(made), _other_names(found)
    differences: list[Difference] = []
    for path in sorted(made.keys() | found.keys()):
        ours, theirs = made.get(path), found.get(path)
        # of a folder that was there a script has changed what it holds, and that is told by its names
        had = ours is not None and ours.type == "d"
        tell = partial(_difference, known, {} if had else configured, family, role, path)
        if ours is None:
            if path.partition("/")[0] in _SYSTEM:
                differences.append(tell("added", str(theirs)))
        elif theirs is None:
            differences.append(tell("missing", str(ours)))
        elif (ours.type, ours.target, ours.size) != (theirs.type, theirs.target, theirs.size):
            differences.append(tell("content", f"{theirs}, not {ours}"))
        else:
            if ours.type == "f" and sums.get(path, ours.md5) != ours.md5:
                differences.append(tell("content", f"MD5 {sums[path]}, not {ours.md5}"))
            # that folders hold the same names is seen by the names
            here, there = names.get(path, frozenset()), names_found.get(path, frozenset()) & made.keys()
            if what := [*_metadata(ours, theirs), *([_names(here, there)] if here != there else [])]:
                differences.append(tell("metadata", "; ".join(what)))
    return tuple(differences)


def as_changed(made: Tree, changes: Changes) -> Tree:
    """What a machine is to hold that was made so, and where somebody has changed that with our knowledge.  Where a
    running system makes its own, that is only what was there."""
    known = {path: one for path, one in changes.items() if path in made or path.partition("/")[0] in _SYSTEM}
    return listing.stacked([made, {"": made[""], **known}]) if known else made


def checksums(changes: Changes) -> list[str]:
    """The lines of the changed files for md5sum, as an image has them of its own."""
    return [
        checksum_line(path, one.md5)
        for path, one in sorted(changes.items())
        if one and re.fullmatch(r"[0-9a-f]{32}", one.md5)
    ]


def _metadata(ours: Entry, theirs: Entry) -> list[str]:
    """How a name differs in what is kept of it besides its content."""
    found = []
    # a link's mode says nothing, and so does a folder's time, which tells when a name was made in it
    if ours.type != "l" and ours.mode != theirs.mode:
        found.append(f"mode {theirs.mode:04o}, not {ours.mode:04o}")
    if (ours.uid, ours.gid) != (theirs.uid, theirs.gid):
        found.append(f"owner {theirs.uid}:{theirs.gid}, not {ours.uid}:{ours.gid}")
    if ours.type != "d" and ours.mtime != theirs.mtime:
        found.append(f"time {theirs.mtime}, not {ours.mtime}")
    # more holes are no loss: what fills a file system makes some of zeros
    if ours.holes and not theirs.holes:
        found.append("its holes are filled")
    for name in sorted(ours.attributes.keys() | theirs.attributes.keys()):
        here, there = ours.attributes.get(name, "nothing"), theirs.attributes.get(name, "nothing")
        if here != there:
            found.append(f"{shown(name)} {there}, not {here}")
    return found


def _other_names(tree: Tree) -> Mapping[str, frozenset[str]]:
    return {name: frozenset(names) - {name} for names in names_of_one_file(tree) for name in names}


def _names(ours: frozenset[str], theirs: frozenset[str]) -> str:
    here, there = (" ".join(sorted(map(shown, names))) or "none" for names in (ours, theirs))
    return f"other names {there}, not {here}"


def _difference(
    known: Sequence[Known],
    configured: Mapping[str, str],
    family: Family,
    role: Role,
    path: str,
    kind: Kind,
    detail: str,
) -> Difference:
    return Difference(path, kind, detail, _reason(known, configured, family, role, path, kind))


def reason(path: str, kind: Kind, role: Role, own: Sequence[Known], family: Family) -> str | None:
    """Why a healthy machine differs so at that path, if there is a reason; `own` is as in `compare`."""
    return _reason((*KNOWN, *own), {}, family, role, path, kind)


def _reason(
    known: Sequence[Known], configured: Mapping[str, str], family: Family, role: Role, path: str, kind: Kind
) -> str | None:
    # that folder is no state of a service: what it holds is the image's word and must stay so
    if f"{path}/".startswith(f"{family.database}/"):
        return None
    return next(
        (
            row.reason
            for row in known
            if kind in row.kinds and role in row.roles and _regex(row.pattern).fullmatch(path)
        ),
        configured.get(path),
    )


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"/\*\*", "(?:/.*)?").replace(r"\*", "[^/]*")
    return re.compile(text, re.DOTALL)
