"""What was tried in place on the machines of a cluster that runs (`doit try`): which OPKGs and packages, how far that
got, and what of it has come to which machines.

It is written down in the run folder before the first machine is touched, and the next boot takes it away with the
machines.  As long as it is there these are not what any recipe would make: the cluster's course is to be made anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import listing
from pipeline.files import write_whole
from pipeline.inventory import Changes

_FILE = "tried.json"


@dataclass(frozen=True)
class Layer:
    """What packages under test and OPKGs bring to machines of one membership: the files of OPKGs that it was made of
    (path below the folder of all recipes -> what is kept of it), what it changes below /, and name -> version of the
    packages."""

    files: Mapping[str, str]
    changes: Changes
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class What:
    """OPKGs, and packages under test, by name."""

    opkgs: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.opkgs or self.packages)

    def __str__(self) -> str:
        named = (("OPKG", self.opkgs), ("package", self.packages))
        return ", ".join(f"{kind} {', '.join(names)}" for kind, names in named if names)

    def __or__(self, other: What) -> What:
        return What(
            tuple(dict.fromkeys([*self.opkgs, *other.opkgs])), tuple(dict.fromkeys([*self.packages, *other.packages]))
        )


@dataclass(frozen=True)
class Share:
    """Of one membership: what its machines were made with, what they had when a try last came to its good end, and the
    paths that tries have brought or may have brought."""

    installed: Layer
    last: Layer
    touched: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Tried:
    """`what` is that of which something was tried; `pending`: that whose try did not come to a good end.

    `shares` are by membership.
    """

    shares: Mapping[str, Share]
    what: What = What()
    pending: What = What()


def read(run_dir: Path) -> Tried | None:
    """What was written down; None where nothing was tried since the boot."""
    try:
        found = json.loads((run_dir / _FILE).read_bytes())
    except FileNotFoundError:
        return None
    return Tried(
        {
            name: Share(_layer(share["installed"]), _layer(share["last"]), frozenset(share["touched"]))
            for name, share in found["shares"].items()
        },
        _what(found["what"]),
        _what(found["pending"]),
    )


def write(run_dir: Path, tried: Tried) -> None:
    """Write it down."""
    record = {
        "what": asdict(tried.what),
        "pending": asdict(tried.pending),
        "shares": {
            name: {
                "installed": _record(share.installed),
                "last": _record(share.last),
                "touched": sorted(share.touched),
            }
            for name, share in tried.shares.items()
        },
    }
    write_whole(run_dir / _FILE, f"{json.dumps(record)}\n".encode())


def told(run_dir: Path) -> str:
    """How machines differ from all recipes by what was tried, in words; "" where they do not."""
    tried = read(run_dir)
    if tried is None:
        return ""
    pending = (*tried.pending.opkgs, *tried.pending.packages)
    broken = f" ({', '.join(pending)}: without a good end)" if pending else ""
    return f"{tried.what}: tried in place, not installed{broken}"


def _layer(record: Mapping[str, Any]) -> Layer:
    return Layer(record["files"], listing.load(record["changes"]), record["packages"])


def _what(record: Mapping[str, Any]) -> What:
    return What(tuple(record["opkgs"]), tuple(record["packages"]))


def _record(layer: Layer) -> dict[str, Any]:
    changes = listing.dump(layer.changes)
    return {"files": dict(layer.files), "changes": changes, "packages": dict(layer.packages)}
