"""A node's files against the SIS image it was installed from.

Every difference is reported unless the one table below knows it, and each row there says why a healthy node
differs from its image at that place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from pipeline.checks.facts import Tree

Kind = Literal["content", "metadata", "missing", "added"]

#: Where a file that is not in the image matters.  Elsewhere (/var, /home, /root, /srv) a running system makes its own.
_SYSTEM = ("usr", "etc", "boot", "opt", "bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Known:
    """Paths that may differ.  In `pattern`, * is any part of one name and ** any number of levels, itself included."""

    pattern: str
    kinds: tuple[Kind, ...]
    reason: str


@dataclass(frozen=True)
class Difference:
    """A path that differs; `known` is the reason when the table has one."""

    path: str
    kind: Kind
    detail: str
    known: str | None


_ANY: tuple[Kind, ...] = ("content", "metadata", "missing", "added")
_OWN: tuple[Kind, ...] = ("content", "metadata", "added")

KNOWN: tuple[Known, ...] = (
    Known("etc/fstab", _OWN, "the node's own partitions"),
    Known("etc/hostname", _OWN, "the node's name"),
    Known("etc/systemd/network/*", _OWN, "the node's address"),
    Known("etc/systemd/system/multi-user.target.wants/systemd-networkd.service", ("added",), "the node's address"),
    Known("boot/grub", ("added",), "the node's boot menu"),
    Known("boot/grub/grub.cfg", _OWN, "the node's boot menu"),
    Known("etc/machine-id", _OWN, "identity of the node"),
    Known("etc/ssh/ssh_host_*", _OWN, "identity of the node"),
    Known("etc/ssh/ssh_known_hosts", _OWN, "host keys of the cluster"),
    Known("etc/munge/munge.key", _OWN, "the cluster's key"),
    Known("etc/ssl/private/ssl-cert-snakeoil.key", _OWN, "the node's own certificate"),
    Known("etc/ssl/certs/ssl-cert-snakeoil.pem", _OWN, "the node's own certificate"),
    Known("etc/ssl/certs/*.0", ("added",), "the node's own certificate"),
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

#: State below var/lib that is none: what these hold is the image's word and must stay so.
_KEPT = re.compile(r"var/lib/(?:dpkg|rpm)(?:/|$)")


def compare(image: Tree, node: Tree, sums: Mapping[str, str]) -> tuple[Difference, ...]:
    """All differences, sorted by path.  `sums` are the paths whose content has not the image's checksum."""
    found: list[Difference] = []
    for path in sorted(image.keys() | node.keys()):
        ours, theirs = image.get(path), node.get(path)
        if ours is None:
            if path.partition("/")[0] in _SYSTEM:
                found.append(_difference(path, "added", str(theirs)))
        elif theirs is None:
            found.append(_difference(path, "missing", str(ours)))
        elif ours.type != theirs.type or (ours.type == "l" and ours.detail != theirs.detail):
            found.append(_difference(path, "content", f"{theirs}, not {ours}"))
        else:
            if path in sums:
                found.append(_difference(path, "content", sums[path]))
            elif ours.detail != theirs.detail:
                found.append(_difference(path, "content", f"{theirs.detail} bytes, not {ours.detail}"))
            # A symbolic link has no mode of its own.
            if (ours.mode, ours.uid, ours.gid) != (theirs.mode, theirs.uid, theirs.gid) and ours.type != "l":
                found.append(_difference(path, "metadata", f"{theirs}, not {ours}"))
    return tuple(found)


def _difference(path: str, kind: Kind, detail: str) -> Difference:
    known = None
    if not _KEPT.match(path):
        known = next((row.reason for row in KNOWN if kind in row.kinds and _regex(row.pattern).fullmatch(path)), None)
    return Difference(path, kind, detail, known)


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"/\*\*", "(?:/.*)?").replace(r"\*", "[^/]*")
    return re.compile(text, re.DOTALL)
