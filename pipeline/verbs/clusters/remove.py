"""A cluster goes, running or not: its machines, what is kept of it, and last its recipe.

In that order, so that a run that is killed can be repeated: while there is a recipe, there is something to be named.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import consent
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.errors import ManifestError, NotNow, UserError
from pipeline.verbs.recipes import edited_alone
from pipeline.verbs.rows import Clusters, Row, Verb


@dataclass(frozen=True)
class Gone:
    """A cluster that is no more: whether it ran, which of its kept disks (MACHINE.NAME) went, and which stay."""

    cluster: str
    ended: bool
    removed: tuple[str, ...]
    kept: tuple[str, ...]

    def text(self) -> str:
        told = [
            f"{self.cluster}: {'ended, and ' if self.ended else ''}it is removed, with its recipe, reports and keys"
        ]
        told += [f"kept disks removed: {', '.join(self.removed)}"] if self.removed else []
        told += [f"kept disks stay: {', '.join(self.kept)}"] if self.kept else []
        return "; ".join(told)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument("--disks", action="store_true", help="its disks that are kept go, too, and what is on them")
    parser.add_argument("--yes", action="store_true", help="do it without asking")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row]:
    with consent.answered(args.yes):
        yield _removed(clusters, args.cluster, disks=args.disks)


def _removed(clusters: Clusters, name: str, *, disks: bool) -> Gone:
    from pipeline import frozen, identity
    from pipeline.store import remove

    life, own = _life(clusters, name), clusters.run.parent
    if life is None and disks:
        raise NotNow(f"the recipe of {name} cannot be read, which says where its disks are", hint="mend it first")
    if life is not None and life.copy_of:
        raise NotNow(f"{name} is a copy of {life.copy_of}", hint=f"doit stop:{name} ends it, and nothing of it is kept")
    _require_unused(clusters, name)
    runs = life is not None and life.machines().runs()
    kept = tuple(_kept(life, name, needed=disks))
    also = f", and what is on the kept disks {', '.join(kept)}" if disks and kept else ""
    machines = "its machines, which run, and " if runs else ""
    consent.require(
        f"{machines}the recipe of {name} go{also}: go on?",
        NotNow(f"{machines}the recipe of {name} would go{also}", hint="--yes does it without asking"),
    )
    with edited_alone(clusters):
        _require_unused(clusters, name)
        if life is not None:
            _end(life, kept if disks else ())
        for folder in (frozen.folder(own, name), identity.folder_of(own, name), own / "reports" / name):
            remove(folder)
        _recipe(clusters, name).unlink(missing_ok=True)
    return Gone(name, runs, kept if disks else (), () if disks else kept)


def _life(clusters: Clusters, name: str) -> Lifecycle | None:
    """None where its recipe cannot be read, and nothing was started by it."""
    try:
        return clusters.running(name)
    except ManifestError:
        return None


def _recipe(clusters: Clusters, name: str) -> Path:
    return clusters.recipes / "clusters" / f"{name}.toml"


def _require_unused(clusters: Clusters, name: str) -> None:
    """Raise NotNow where another recipe would break."""
    from pipeline.manifests.recipes import load
    from pipeline.manifests.setting import extending

    if others := extending(load(clusters.recipes), name):
        raise NotNow(f"{', '.join(others)} extend{'s' if len(others) == 1 else ''} {name}", hint="remove that first")


def _kept(life: Lifecycle | None, name: str, *, needed: bool) -> list[str]:
    """The disks that are kept; a host that does not answer is a matter only where they are to go."""
    if life is None:
        return []
    try:
        return list(life.runner.place.kept())
    except UserError:
        if needed:
            raise
        return []


def _end(life: Lifecycle, disks: tuple[str, ...]) -> None:
    """End it, and remove its run folder and these disks."""
    from pipeline.store import remove

    with life.runner.alone():
        life.stop()
        if disks:
            life.runner.place.discard(disks)
        remove(life.run_dir)


VERB = Verb("end a cluster, and remove its recipe, reports, keys and what is frozen of it", _arguments, _rows)
