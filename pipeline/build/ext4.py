"""ext4 file systems filled from a tree in one go, without mounting, the same bytes for the same tree.

mke2fs takes files as they come.  The order in which a folder lists its names depends on the file system that it lies
on, so mke2fs gets the tree through tar, which sorts.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.build.tools import Tools
from pipeline.errors import CommandError
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind, tail

#: Features that older kernels and boot loaders do not know stay off; everything is initialised now, because a machine
#: that does it at its first start would do it at every first start.
_FEATURES = "^metadata_csum_seed,^orphan_file"
_BLOCK = 4096


@dataclass(frozen=True)
class Tree:
    """How much a tree holds: number of files and folders, and bytes in whole blocks."""

    inodes: int
    size: int


def measure(tree: Path, without: Sequence[str] = ()) -> Tree:
    """What a file system for `tree` must hold, apart from the folders in `without` (absolute, as inside the tree)."""
    seen: set[tuple[int, int]] = set()
    inodes = size = 0
    skipped = {str(tree / path.lstrip("/")) for path in without}
    pending = [str(tree)]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                inodes += 1
                if stat.S_ISDIR(status.st_mode):
                    size += _BLOCK
                    if entry.path not in skipped:
                        pending.append(entry.path)
                elif stat.S_ISREG(status.st_mode):
                    size += -(-status.st_size // _BLOCK) * _BLOCK
    return Tree(inodes, size)


def make(
    tools: Tools,
    image: Path,
    tree: Path,
    *,
    uuid: str,
    size: int,
    offset: int = 0,
    label: str = "",
    features: str = "",
    inodes: int = 0,
    without: Sequence[str] = (),
    binds: Sequence[Bind] = (),
) -> None:
    """Make a file system of `size` bytes at `offset` of `image`, filled with `tree`.

    `without` are folders (absolute, as inside the tree) that stay empty; `binds` are laid over parts of the tree, at
    paths below /tmp/tree.  Raises CommandError when it does not fit.
    """
    tar = ["tar", "--create", "--directory=/tmp/tree", "--sort=name", "--format=posix", "--numeric-owner",
           f"--mtime=@{SOURCE_DATE_EPOCH}", "--clamp-mtime", "--xattrs", "--xattrs-include=security.capability",
           "--pax-option=delete=atime,delete=ctime", "--anchored",
           *(f"--exclude=.{path}/*" for path in without), "."]
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-U", uuid, "-m", "1",
              "-O", ",".join(part for part in (_FEATURES, features) if part),
              "-E", f"offset={offset},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
              "-d", "-"]
    if label:
        mke2fs += ["-L", label]
    if inodes:
        mke2fs += ["-N", str(inodes)]
    script = f"{{ {shlex.join(tar)} || : > /tmp/failed; }} | {shlex.join(mke2fs)} /tmp/image {size // _BLOCK} &&"
    tools.run(["sh", "-c", f"{script} [ ! -e /tmp/failed ]"],
              Bind(tree, "/tmp/tree"), *binds, Bind(image, "/tmp/image", writable=True))


def is_full(error: CommandError) -> bool:
    """Whether mke2fs ended because the tree did not fit."""
    text = tail(error.log, 40) if error.log else error.tail
    return "Could not allocate" in text or "No space left" in text or "no free space" in text.lower()


@contextlib.contextmanager
def blank(path: Path, size: int) -> Iterator[Path]:
    """A new sparse file of `size` bytes that is gone again when the block fails."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    try:
        yield path
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    os.utime(path, (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH))
