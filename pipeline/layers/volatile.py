"""What no layer keeps, whoever makes it: what a running system has for itself, and what is made anew each time.

One list for two readers: layers leave it out, and an OPKG that brings such a file is told so where it is read.
"""

from __future__ import annotations

import os
import re

#: Kernel file systems and scratch: a running system mounts something over them.
SCRATCH = re.compile(r"(dev|proc|sys|run|tmp|var/tmp)/.*", re.DOTALL)
#: Files that differ from one run to the next and are made anew, and what is secret.
MADE_ANEW = re.compile(
    r"var/(cache/apt|lib/apt/lists|lib/apt/periodic|log/apt)/.*|var/lib/apt/extended_states"
    r"|var/cache/(ldconfig|man)/.*|var/cache/debconf/.*-old"
    r"|var/lib/dpkg/(lock|lock-frontend|available|.*-old|triggers/Lock)"
    r"|var/lib/systemd/(random-seed|credential\.secret)|var/lib/dbus/machine-id"
    r"|etc/(passwd|shadow|group|gshadow|subuid|subgid)-|etc/\.pwd\.lock"
    r"|etc/ssh/ssh_host_.*|etc/munge/munge\.key|etc/ssl/(private|certs)/ssl-cert-snakeoil\.(key|pem)"
    r"|etc/openldap/certs/((cert8|key3|secmod)\.db|password)"
    r"|root/(\.bash_history|\.wget-hsts|\.cache/.*)",
    re.DOTALL,
)
#: Files with content there differ from one run to the next; empty ones are kept, for services that want to find them.
LOG = re.compile(r"var/log/.*", re.DOTALL)

#: Folders that every system of today has as links.
_LINKED = re.compile(r"var/(run|lock)(?=/)")


def why_not(path: str, *, has_content: bool) -> str:
    """Why a file (that is or is not empty) or an empty folder at a path below / is not kept, or ""."""
    path = _LINKED.sub("run", path)
    if SCRATCH.fullmatch(path):
        return "a running machine has a file system of its own there; tmpfiles.d(5) says what it shall hold"
    if MADE_ANEW.fullmatch(path):
        return "that is made anew for each machine or at each build; a script of a later phase can write it"
    if has_content and LOG.fullmatch(path):
        return "logs are made anew: only empty files and folders are kept there"
    return ""


def left_out(path: str, entry: os.DirEntry[str]) -> bool:
    """Whether layers leave out a name that stands in a tree."""
    if SCRATCH.fullmatch(path):
        return True
    if entry.is_dir(follow_symlinks=False):
        return False
    is_log = LOG.fullmatch(path) and entry.is_file(follow_symlinks=False)
    if is_log and entry.stat(follow_symlinks=False).st_size > 0:
        return True
    return MADE_ANEW.fullmatch(path) is not None
