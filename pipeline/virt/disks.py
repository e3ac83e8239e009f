"""Disks of a machine that starts: throwaway overlays over artifacts, and what is handed in as it is.

An artifact is never booted itself.  An overlay holds what a machine changed and costs nothing to make; the path of
what lies below it is absolute and the same inside a cluster's namespace as outside.  An artifact is a raw file, or a
small qcow2 file over a raw one that lies beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline import qcow2, sandbox
from pipeline.errors import ClusterError
from pipeline.run import run

#: An overlay grows as its machine writes; below this a cluster is not worth starting.
_LEAST_FREE_MIB = 512

Format = Literal["raw", "qcow2"]


@dataclass(frozen=True)
class Given:
    """A disk that a machine gets for one start: its name, its file, and the artifact that lies below it.

    `digest` is that of what lies below it all ("" = there is nothing: the file is this start's own), `device` a block
    device of the VM container that takes the place of a file ("" = none); `format` is that of `file`.
    """

    name: str
    file: Path
    artifact: Path
    digest: str
    readonly: bool = False
    device: str = ""
    format: Format = "raw"

    @property
    def is_blank(self) -> bool:
        """Whether the artifact is nothing but a size."""
        return self.stored == 0

    @property
    def size(self) -> int:
        """Bytes of the disk that the artifact is."""
        return qcow2.size_of(self.artifact) if self._is_over_another else self.artifact.stat().st_size

    @property
    def stored(self) -> int:
        """Bytes that the artifact takes, with what lies below it."""
        return stored(self.artifact)

    @property
    def below(self) -> Path:
        """The raw file that lies below it all."""
        return below(self.artifact)

    @property
    def changes(self) -> list[tuple[int, int, int]]:
        """What the artifact has instead of what lies below it; see `qcow2.pieces`."""
        return qcow2.pieces(self.artifact) if self._is_over_another else []

    @property
    def _is_over_another(self) -> bool:
        return format_of(self.artifact) == "qcow2"


def of(artifact: Path, name: str) -> Path:
    """The disk of that name in an artifact's folder: a qcow2 file over another, or a raw one."""
    over = artifact / f"{name}.qcow2"
    return over if over.exists() else artifact / f"{name}.img"


def below(disk: Path) -> Path:
    """The raw file that lies below a disk of an artifact, or is it."""
    return disk.with_name(qcow2.BASE) if format_of(disk) == "qcow2" else disk


def stored(disk: Path) -> int:
    """Bytes that an artifact's disk takes, with what lies below it."""
    return sum(path.stat().st_blocks * 512 for path in {disk, below(disk)})


def format_of(disk: Path) -> Format:
    """The format of a disk file, by its name."""
    return "qcow2" if disk.suffix == ".qcow2" else "raw"


def overlay(base: Path, path: Path) -> None:
    """A new, empty qcow2 overlay at `path` over the disk `base`; what lay at `path` is thrown away."""
    require_space(path.parent, _LEAST_FREE_MIB)
    path.unlink(missing_ok=True)
    run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", format_of(base), "-b", base.resolve(strict=True), path],
        timeout=60,
    )
    sandbox.give(path)


def frozen_below(path: Path) -> Path:
    """What lies below the disk of a machine of a thawed copy: the frozen one, beside it."""
    return path.with_name(f"{path.stem}.frozen{path.suffix}")


def attach(source: Path, path: Path) -> None:
    """Give the read-only disk `source` to a machine as `path`."""
    path.unlink(missing_ok=True)
    path.symlink_to(source.resolve(strict=True))


def blank(path: Path, size_mib: int) -> None:
    """A new, empty sparse disk at `path`; what lay there is thrown away."""
    path.unlink(missing_ok=True)
    with path.open("xb") as file:
        file.truncate(size_mib << 20)
    sandbox.give(path)


def is_full(folder: Path) -> bool:
    """Whether the file system of `folder` takes nothing more."""
    return shutil.disk_usage(folder).free < 1 << 16


def require_fit(folder: Path, given: Iterable[Given]) -> str:
    """Raise unless there is space in `folder` for what these machines are certain to write: each blank disk is
    installed from the SIS image.  A remark if their disks may grow beyond what is free, "" if they can't.
    """
    given = list(given)
    own = [disk.size for disk in given if not disk.readonly and not disk.device]
    image = sum(disk.stored for disk in given if disk.readonly and disk.name == "sis")
    blank = sum(disk.is_blank for disk in given if not disk.readonly and not disk.device)
    require_space(folder, _LEAST_FREE_MIB + (blank * image >> 20))
    free = shutil.disk_usage(folder).free
    if sum(own) <= free:
        return ""
    return (
        f"{folder}: {free >> 20} MiB are free, and the machines' disks may grow to {sum(own) >> 20} MiB together; "
        "a machine whose disk finds no space is paused, and told"
    )


def require_space(folder: Path, mib: int) -> None:
    """Raise unless the file system of `folder` has `mib` MiB free."""
    free = shutil.disk_usage(folder).free >> 20
    if free < mib:
        raise ClusterError(
            f"{folder}: {free} MiB free on this file system, at least {mib} MiB are needed",
            hint="doit gc frees what no cluster needs; or move artifacts/ to a larger file system",
        )
