"""ext4 file systems filled from a tree in one go, without mounting, the same bytes for the same tree.

mke2fs sorts names (since 1.47.1), takes no time later than SOURCE_DATE_EPOCH, and copies holes and all extended
attributes; given a tar archive instead it would leave out access lists and what users have noted.  It makes blocks of
zeros holes too.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import inventory, listing
from pipeline.errors import CommandError, UserError
from pipeline.layers.tools import Tools
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind, tail

#: Features that older kernels and boot loaders do not know stay off; everything is initialised now, because a machine
#: that does it at its first start would do it at every first start.
_FEATURES = "^metadata_csum_seed,^orphan_file"
_BLOCK = 4096
#: What mke2fs takes for one file: bytes, by how large the file system is (mke2fs.conf: the default, and "small").
_PER_FILE, _PER_FILE_IF_SMALL, _SMALL = 16384, 4096, 512 << 20
#: Inodes that a file system has for itself, and for the few files that only one machine has.
_RESERVED = 64
#: Bytes of a link's target that an inode has room for.
_SHORT_TARGET = 60


@dataclass(frozen=True)
class Held:
    """How much a file system holds: number of files, folders and links, and bytes in whole blocks."""

    inodes: int
    size: int


def measure(content: inventory.Tree, place: str = "/", without: Sequence[str] = ()) -> Held:
    """What a file system for what is below `place` must hold, apart from what is in the folders `without` (absolute,
    as seen from there)."""
    files: dict[str, int] = {}
    folders: Counter[str] = Counter()
    for path, entry in listing.below(content, place, without).items():
        if path:
            files[entry.inode or path] = _blocks(entry)
            folder, _, name = path.rpartition("/")
            # the entry's head, and up to the next multiple of four
            folders[folder] += 12 + len(os.fsencode(name))
    # no entry of a folder lies in two blocks
    return Held(len(files), sum(files.values()) + sum(_whole(size + size // 16) for size in folders.values()))


def _blocks(entry: inventory.Entry) -> int:
    """What a file takes besides its inode; a folder that is empty takes a block."""
    own = {
        "f": entry.size - entry.holes,
        "l": len(entry.target) if len(entry.target) >= _SHORT_TARGET else 0,
        "d": 1,
    }.get(entry.type, 0)
    return _whole(own) + (_BLOCK if entry.attributes else 0)


def _whole(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def inodes_for(held: Held, size: int, what: str) -> int:
    """How many inodes a file system of `size` bytes must be told to have, for a tree and as many more as mke2fs gives
    to the room that is left; 0 where it has them anyway.  UserError where it can't have enough; `what` names it."""
    each = _PER_FILE if size >= _SMALL else _PER_FILE_IF_SMALL
    wanted = held.inodes + _RESERVED + max(0, size - held.size) // each
    most = size // _BLOCK
    if held.inodes + _RESERVED > most:
        raise UserError(
            f"{what}: {held.inodes} files, folders and links belong there, and a file system of "
            f"{size >> 20} MiB has inodes for {most}",
            hint="make that file system (and the disk) larger in the cluster's manifest",
        )
    return min(wanted, most) if wanted > size // each else 0


def make(
    tools: Tools,
    image: Path,
    tree: Path,
    *,
    uuid: str,
    size: int,
    kind: str = "ext4",
    offset: int = 0,
    label: str = "",
    features: str = "",
    inodes: int = 0,
    without: Sequence[str] = (),
    binds: Sequence[Bind] = (),
) -> None:
    """Make a file system of `size` bytes at `offset` of `image`, filled with `tree`; `kind` is ext2, ext3 or ext4.

    `without` are folders (absolute, as inside the tree) that stay empty; `binds` are laid over parts of the tree, at
    paths below /tmp/tree.  `inodes` 0 = as many as mke2fs gives.  Raises CommandError when it does not fit.
    """
    top = tree.stat()
    extended = (
        f"offset={offset},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,"
        f"root_owner={top.st_uid}:{top.st_gid},root_perms={stat.S_IMODE(top.st_mode):o}"
    )
    mke2fs = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        kind,
        "-b",
        str(_BLOCK),
        "-U",
        uuid,
        "-m",
        "1",
        "-O",
        ",".join(part for part in (_FEATURES, features) if part),
        "-E",
        extended,
        "-d",
        "/tmp/tree",
    ]
    if label:
        mke2fs += ["-L", label]
    if inodes:
        mke2fs += ["-N", str(inodes)]
    with _emptied(tree, without) as empty:
        tools.run(
            [*mke2fs, "/tmp/image", str(size // _BLOCK)],
            Bind(tree, "/tmp/tree"),
            *empty,
            *binds,
            Bind(image, "/tmp/image", writable=True),
        )


@contextlib.contextmanager
def _emptied(tree: Path, without: Sequence[str]) -> Iterator[list[Bind]]:
    """Empty folders like those, to be laid over them; none below another."""
    outer = [path for path in without if not any(path.startswith(f"{other}/") for other in without)]
    with tempfile.TemporaryDirectory() as work:
        binds = []
        for number, path in enumerate(outer):
            folder = Path(work) / str(number)
            folder.mkdir()
            inventory.take_after(folder, tree / path.lstrip("/"))
            binds.append(Bind(folder, f"/tmp/tree{path}"))
        yield binds


def is_full(error: CommandError) -> bool:
    """Whether mke2fs ended because the tree did not fit: a full disk below the image is told in other words."""
    text = tail(error.log, 40) if error.log else error.tail
    return "Could not allocate" in text or "no free space" in text.lower()


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
