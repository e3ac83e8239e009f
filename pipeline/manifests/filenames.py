"""What files of recipes may be called: clusters and distributions are tasks and folders of that name."""

from __future__ import annotations

import re

from pipeline import naming
from pipeline.mistakes import listing, quoted

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")

#: Each cluster and each distribution has a folder of its name in artifacts/, and these are there for something else.
_FOLDERS = frozenset(
    (
        "cache",
        "checkout",
        "checkouts",
        "failed",
        "frozen",
        "identity",
        "kept",
        "locks",
        "logs",
        "pool",
        "reports",
        "run",
        "store",
    )
)
#: Beginnings of names that are made up for something else, by the kind of recipe that must not have them, and for what.
_BEGINNINGS = {
    "clusters": {naming.testbed(""): "the testbeds of VM containers"},
    "distros": {
        "dom0-": "what makes a Xen host of a distribution",
        "netboot-": "what the installer is made of",
        "xltools-": "what Xen configurations are checked with",
    },
}


def wrong(kind: str, name: str) -> str:
    """What is wrong with the name of a manifest, or ""; OPKGs are judged where they are read."""
    if kind == "opkgs":
        return ""
    if not _NAME.fullmatch(name):
        return "the file's name is no name; expected letters a-z, digits and inner hyphens, 40 at most"
    if kind in ("clusters", "distros") and name in _FOLDERS:
        return (
            f"{quoted(name)} is a folder of artifacts/ already; expected another file name, none of {listing(_FOLDERS)}"
        )
    for beginning, what in _BEGINNINGS.get(kind, {}).items():
        if name.startswith(beginning):
            return f"names that begin with {quoted(beginning)} are for {what}; expected another file name"
    return ""
