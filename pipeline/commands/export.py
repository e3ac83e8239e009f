"""`doit export CLUSTER head|image DIR`: an artifact as one file that needs no other, to be taken elsewhere."""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import naming
from pipeline.commands.base import GraphCommand, cluster_argument
from pipeline.errors import NotThere, UserError
from pipeline.figures import size
from pipeline.run import run

if TYPE_CHECKING:
    from pipeline.tasks import Graph

_TARBALL = "tar.zst"
#: Seconds to write a disk, on slow media as well.
_WRITING = 3600


class Export(GraphCommand):
    name = "export"
    doc_purpose = "write the head node or the SIS image to a file that needs no other"
    doc_usage = "CLUSTER head|image [--format raw|qcow2|tar.zst] DIR"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        parser.add_argument("part", choices=("head", "image"), help="the head node, or what nodes are installed from")
        parser.add_argument("folder", type=Path, help="where the file is to lie; made if it is missing")
        parser.add_argument(
            "--format",
            choices=("raw", "qcow2", _TARBALL),
            default="qcow2",
            help="a disk, raw or qcow2, or the head node's files as a tarball (default: %(default)s)",
        )

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.virt import disks

        cluster, made = graph.lifecycle(args.cluster).cluster, graph.plan.made[args.cluster]
        folder = _usable(args.folder)
        target = folder / f"{cluster.name}-{args.part}.{args.format}"
        if args.format == _TARBALL:
            if args.part != "head":
                raise NotThere(
                    f"there is no tarball of the SIS image of {cluster.name}", hint="--format raw or --format qcow2"
                )
            tarball = graph.engine.entry(naming.headnode(cluster.name)).path / f"head.{_TARBALL}"
            _require_room(folder, tarball.stat().st_size)
            _write(target, lambda new: shutil.copyfile(tarball, new))
        else:
            task, name = (made.disks[cluster.head.name], "disk") if args.part == "head" else (made.image, "sis")
            disk = disks.of(graph.engine.entry(task).path, name).resolve(strict=True)
            _require_room(folder, disks.stored(disk))
            argv = ["qemu-img", "convert", "-f", disks.format_of(disk), "-O", args.format, disk]
            _write(target, lambda new: run([*argv, new], timeout=_WRITING))
        print(f"{target}: {size(target.stat().st_blocks * 512)}")
        return 0


def _usable(folder: Path) -> Path:
    """A folder to write to, made if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder} is no folder", hint="name one, or one that can be made") from None
    return folder


def _require_room(folder: Path, needed: int) -> None:
    """Raise unless the file system of `folder` takes that many bytes more."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {size(needed)} are needed on this file system, {size(free)} are free",
            hint="make room there, or name a folder elsewhere",
        )


def _write(target: Path, make: Callable[[Path], object]) -> None:
    """Have `make` write a file, which takes the place of `target` when it is whole and on disk."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        new = Path(folder) / target.name
        make(new)
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.replace(target)
