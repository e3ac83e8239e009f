"""The core names no package manager, no service manager and no service: each has a room that knows it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

PIPELINE = Path(__file__).resolve().parents[1] / "pipeline"

WORDS = re.compile(r"\b(dpkg|apt|systemd|systemctl|networkd|munge|slurm)(?=\b|_)", re.IGNORECASE)

#: Rooms that know all of one system; a folder or a file.
ROOMS = ("packages/deb/", "guests/debian.py", "guests/redhat.py", "dom0/", "builders/dom0.py", "hosts/xen-setup.sh")

#: Elsewhere: which words, and why there.
KNOWN = {
    "appliance.py": ({"dpkg", "systemd", "slurm"}, "packages of this machine; logs of any system"),
    "cluster/become.pl": ({"systemctl", "systemd"}, "how a copy of a machine starts services anew"),
    "confine.py": ({"systemd", "systemctl"}, "what maintainer scripts of any family look at, and must see"),
    "doctor/host.py": ({"apt", "dpkg"}, "programs of this machine"),
    "doctor/isolation.py": ({"systemd"}, "containers that this machine may be"),
    "layers/cache.py": ({"systemd"}, "what this machine's may remove"),
    "layers/stacking.py": ({"dpkg"}, "a program that renames as any may"),
    "layers/refused.py": ({"dpkg"}, "whose file it is"),
    "layers/volatile.py": ({"apt", "dpkg", "systemd", "munge"}, "what packages make anew, in one list for all systems"),
    "guests/guest.py": ({"systemd"}, "the inits that there are"),
    "opkgs/folders.py": ({"systemd"}, "an example"),
    "opkgs/secrets.py": ({"munge"}, "an example"),
    "manifests/distro.py": ({"apt"}, "the mirror of this machine"),
    "opkgs/older.py": ({"systemctl"}, "advice for whoever writes an OPKG"),
    "packages/rpm/family.py": ({"systemd", "systemctl"}, "what scripts of packages ask"),
    "packages/rpm/install.py": ({"systemd"}, "what scripts of packages look at"),
    "packages/rpm/root.py": ({"systemd"}, "a file that belongs to one machine"),
    "plan/distro.py": ({"munge", "slurm"}, "an example"),
    "sandbox.py": ({"systemd"}, "who says which user ids are free"),
}


def found() -> Iterator[tuple[str, set[str]]]:
    for path in sorted(PIPELINE.rglob("*")):
        name = str(path.relative_to(PIPELINE))
        if path.is_file() and "__pycache__" not in path.parts and not name.startswith(ROOMS):
            yield name, {word.lower() for word in WORDS.findall(path.read_text(errors="replace"))}


def test_words_of_one_system_stand_where_it_is_known() -> None:
    assert {name: words for name, words in found() if words} == {name: words for name, (words, _) in KNOWN.items()}
