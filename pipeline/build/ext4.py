"""ext4 file systems filled from a tree in one go, without mounting, the same bytes for the same tree."""

from __future__ import annotations

import contextlib
import os
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
    binds: Sequence[Bind] = (),
) -> None:
    """Make a file system of `size` bytes at `offset` of `image`, filled with `tree`.

    `binds` are laid over parts of the tree, at paths below /tmp/tree.  Raises CommandError when it does not fit.
    """
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", str(_BLOCK), "-U", uuid, "-m", "1",
            "-O", ",".join(part for part in (_FEATURES, features) if part),
            "-E", f"offset={offset},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
            "-d", "/tmp/tree"]
    if label:
        argv += ["-L", label]
    if inodes:
        argv += ["-N", str(inodes)]
    tools.run([*argv, "/tmp/image", str(size // _BLOCK)],
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
