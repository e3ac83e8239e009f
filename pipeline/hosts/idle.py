"""Run folders of clusters that do not run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline import checkout
from pipeline.errors import ClusterError
from pipeline.exclusive import exclusive
from pipeline.hosts import namespace
from pipeline.store import remove


def run_folders(artifacts: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """The run folders of clusters that do not run, of whichever checkout, and what checkouts that are no more have
    left, unless that are disks which are kept; and how to remove each, which says whether it is gone."""
    for own in checkout.own_folders(artifacts):
        folders = [folder for folder in sorted((own / "run").glob("[!.]*")) if folder.is_dir()]
        for folder in folders:
            if not _runs(folder):
                yield folder, partial(_remove_idle, folder)
        if checkout.is_lost(own) and not any((own / "kept").glob("*/*")) and not any(map(_runs, folders)):
            yield own, partial(_remove_lost, own)


def _runs(run_dir: Path) -> bool:
    """Whether machines of the cluster may run: in namespaces of its own, a testbed, or on a host that is not asked."""
    if namespace.alive(run_dir):
        return True
    mark = run_dir / "container"
    place = mark.read_text().partition("\n")[2].split() if mark.exists() else []
    return len(place) == 1 or (len(place) == 2 and namespace.is_alive(int(place[0]), int(place[1])))


def _remove_idle(run_dir: Path) -> bool:
    with contextlib.suppress(ClusterError), exclusive(run_dir.parent / f".{run_dir.name}.lock", "busy", hint=""):
        if not _runs(run_dir):
            remove(run_dir)
            return True
    return False


def _remove_lost(own: Path) -> bool:
    if not any(map(_runs, (own / "run").glob("[!.]*"))):
        remove(own)
        return True
    return False
