"""Disks for data of machines whose disks are on this machine: thrown away with their cluster, or kept.

A machine sees them in its cluster's run folder.  Those that are kept lie in `kept/CLUSTER/` beside all run folders, and
are linked from there: what empties a run folder takes a name, and not the disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pipeline import sandbox
from pipeline.description import DataDisk, Machine
from pipeline.errors import ClusterError


def provide(run_dir: Path, cluster: str, machine: Machine) -> dict[str, Path]:
    """The files of a machine's disks for data, by their names; what is missing is made."""
    return {disk.name: _one(run_dir, cluster, f"{machine.name}.{disk.name}.img", disk) for disk in machine.disks}


def remove(run_dir: Path, machine: str) -> None:
    """Take those of a machine that are thrown away, and the names of the others."""
    for file in (run_dir / "disks").glob(f"{machine}.*.img"):
        file.unlink()


def kept(run_dir: Path, cluster: str) -> list[str]:
    """Those that are kept of a cluster, as MACHINE.NAME, also of machines that it has no longer."""
    return sorted(file.name.removesuffix(".img") for file in _kept(run_dir, cluster).glob("*.*.img"))


def discard(run_dir: Path, cluster: str, disks: Sequence[str]) -> None:
    """Remove some of those that are kept, and what is on them."""
    for disk in disks:
        for file in (run_dir / "disks" / f"{disk}.img", _kept(run_dir, cluster) / f"{disk}.img"):
            file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # others are left in it
        _kept(run_dir, cluster).rmdir()


def _kept(run_dir: Path, cluster: str) -> Path:
    return run_dir.parent.parent / "kept" / cluster


def _one(run_dir: Path, cluster: str, name: str, disk: DataDisk) -> Path:
    seen, kept = run_dir / "disks" / name, _kept(run_dir, cluster) / name
    if disk.kind == "kept":
        kept.parent.parent.mkdir(mode=0o700, exist_ok=True)
        kept.parent.mkdir(exist_ok=True)
        _size(kept, disk)
        seen.unlink(missing_ok=True)
        try:
            seen.hardlink_to(kept)
        except OSError as error:
            raise ClusterError(
                f"{kept} cannot be linked to {seen}: {error.strerror}",
                hint="both must be on one file system, which has links",
            ) from None
    else:
        if kept.exists() and seen.exists() and seen.samefile(kept):  # it was to be kept before
            seen.unlink()
        _size(seen, disk)
    return seen


def _size(file: Path, disk: DataDisk) -> None:
    """Make it if it is missing, or larger; what is on it stays."""
    with file.open("ab") as stream:
        has = stream.tell()
        if has > disk.size_mib << 20:
            raise ClusterError(
                f"{file} has {has >> 20} MiB, and the recipe says {disk.size_mib}: what is beyond would be lost",
                hint=f'say size = "{has >> 20}M", or remove the file, and what is on it with it',
            )
        stream.truncate(disk.size_mib << 20)
    sandbox.give(file)
