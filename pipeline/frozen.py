"""Frozen clusters: a verified cluster as it was at one moment, to be woken as many times as one likes.

    OWN/frozen/CLUSTER/
        record.json     all that it depends on, and which files it is
        state/NAME      the state of each machine's devices
        ram/NAME        its memory, with holes where that is zero
        disks/          its disks: overlays over artifacts, which stay in the store for as long as this does
        domains/NAME    how libvirt was told of it
        identity/       keys and secrets as they were

Memory holds secrets, so all this is its owner's alone and in the checkout's own folder, never in the store.  A folder
is published whole, by its name; what a killed run leaves has another one, and is taken away by whoever comes next.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import checkout
from pipeline.description import Cluster, Host
from pipeline.errors import NotNow
from pipeline.locks import Busy, locked
from pipeline.store import remove

_RECORD = "record.json"
#: Grows with every change of what is written that another version of this project could not read.
_SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """An artifact that it was made of: its task, its key in the store, and the digest of what it holds."""

    task: str
    key: str
    digest: str


@dataclass(frozen=True)
class Frozen:
    """A frozen cluster.  `parts` are by role; `here` is what of this machine it depends on, in words by what it is (the
    accelerator, versions of QEMU and libvirt ...); `machines` say of each what it is to its engine; `sizes` are bytes
    of its files by their path; `verdict` is a line, `when` seconds since the epoch."""

    folder: Path
    cluster: Cluster
    host: Host
    parts: Mapping[str, Part]
    here: Mapping[str, str]
    machines: Mapping[str, Mapping[str, str]]
    sizes: Mapping[str, int]
    verdict: str
    when: float

    def differs(self, parts: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
        """What is no longer as it was when it was frozen: of artifacts (role -> digest today), and of this machine."""
        frozen = {role: part.digest for role, part in self.parts.items()}
        changed = [role for role in sorted(frozen.keys() | parts.keys()) if frozen.get(role) != parts.get(role)]
        found = [f"it would be made of other artifacts now: {', '.join(changed)}"] if changed else []
        for what in sorted(self.here.keys() | here.keys()):
            then, now = self.here.get(what, "none"), here.get(what, "none")
            if then != now:
                found.append(f"{what} is {now}, and was {then}")
        return found

    @property
    def taken(self) -> int:
        """Bytes that it takes."""
        return sum(path.stat().st_blocks * 512 for path in self.folder.rglob("*"))

    def damage(self) -> list[str]:
        """What of its files is not there as it was written, as far as sizes tell."""
        found = []
        for name, size in self.sizes.items():
            path = self.folder / name
            if not path.exists():
                found.append(f"{name} is missing")
            elif path.stat().st_size != size:
                found.append(f"{name} has {path.stat().st_size} bytes instead of {size}")
        return found


def folder(own: Path, cluster: str) -> Path:
    """Where a checkout keeps a cluster frozen."""
    return own / "frozen" / cluster


def read(own: Path, cluster: str) -> Frozen | None:
    """A frozen cluster, or None; raises NotNow where nobody can read it any more."""
    place = folder(own, cluster)
    try:
        data = json.loads((place / _RECORD).read_bytes())
        if data["schema"] != _SCHEMA:
            raise ValueError(f"schema {data['schema']}")
        return Frozen(
            folder=place,
            cluster=Cluster.from_json(data["cluster"]),
            host=Host(**data["host"]),
            parts={role: Part(**part) for role, part in data["parts"].items()},
            **{name: data[name] for name in ("here", "machines", "sizes", "verdict", "when")},
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise NotNow(
            f"frozen {cluster} is another version's of this project: {place / _RECORD} cannot be read ({error})",
            hint=f"doit freeze {cluster} replaces it",
        ) from None


@contextlib.contextmanager
def making(own: Path, cluster: str) -> Iterator[Path]:
    """An empty folder to freeze a cluster in, which is gone after the block unless `publish` took it."""
    place = _unfinished(folder(own, cluster))
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(place, within=None):
        _clear(place)
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            remove(place)


def publish(made: Path, frozen: Frozen) -> None:
    """Write its record, and put it in the place of what was frozen before; all of it is on disk when this returns."""
    data: dict[str, Any] = {
        "schema": _SCHEMA,
        **{name: getattr(frozen, name) for name in ("here", "machines", "verdict", "when")},
        "cluster": frozen.cluster.to_json(),
        "host": asdict(frozen.host),
        "parts": {role: asdict(part) for role, part in frozen.parts.items()},
        "sizes": {
            path.relative_to(made).as_posix(): path.stat().st_size for path in sorted(made.rglob("*")) if path.is_file()
        },
    }
    (made / _RECORD).write_text(json.dumps(data, indent=1) + "\n")
    for path in sorted(made.rglob("*"), reverse=True):
        path.chmod(0o700 if path.is_dir() else 0o600)
        _to_disk(path)
    _to_disk(made)
    old = _replaced(made)
    if frozen.folder.exists():
        frozen.folder.rename(old)
    made.rename(frozen.folder)
    _to_disk(frozen.folder.parent)
    remove(old)


def used(frozen: Frozen) -> None:
    """It has just been used: others go before it when room is short."""
    os.utime(frozen.folder)


def held(artifacts: Path) -> set[str]:
    """The keys of all entries of the store that frozen clusters stand on, of whichever checkout."""
    found: set[str] = set()
    for place in folders(artifacts):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads((place / _RECORD).read_bytes())
            found.update(str(part["key"]) for part in data["parts"].values())
    return found


def folders(artifacts: Path) -> list[Path]:
    """Those of all frozen clusters of all checkouts; a copy that runs does not need them any more."""
    return [path for own in checkout.own_folders(artifacts) for path in sorted((own / "frozen").glob("[!.]*"))]


def clear_leftovers(artifacts: Path) -> None:
    """Remove what killed runs have left."""
    for own in checkout.own_folders(artifacts):
        for lock in (own / "frozen").glob(".*.new.lock"):
            with contextlib.suppress(Busy), _alone(lock.with_suffix(""), within=0):
                _clear(lock.with_suffix(""))


def _clear(unfinished: Path) -> None:
    """What was about to be replaced, and was not, is there again; the rest goes."""
    place = unfinished.with_name(unfinished.name.removeprefix(".").removesuffix(".new"))
    old = _replaced(unfinished)
    if old.exists() and not place.exists():
        old.rename(place)
    remove(old)
    remove(unfinished)


def _replaced(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.old")


def _unfinished(place: Path) -> Path:
    return place.with_name(f".{place.name}.new")


def _alone(unfinished: Path, within: float | None) -> contextlib.AbstractContextManager[None]:
    return locked(unfinished.with_name(f"{unfinished.name}.lock"), within=within)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
