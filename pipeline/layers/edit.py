"""An ext4 file system that is made already, changed to hold another tree, as the few blocks in which that differs.

mke2fs writes every block of a file system, however small the change.  Here debugfs makes the change in a copy of the
file system's metadata alone, which e2image takes out of it: a few MiB, with holes where files have their content.
What differs afterwards is what has to be written.  Both steps depend on nothing but the file system and the two trees,
so the result does too.

Source: e2fsprogs 1.47, debugfs(8) and e2image(8); what an inode of mke2fs -d looks like was read from such.
"""

from __future__ import annotations

import bisect
import errno
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline import listing, qcow2
from pipeline.errors import BuildError
from pipeline.inventory import Entry, Tree
from pipeline.layers.tools import Tools
from pipeline.sandbox import SOURCE_DATE_EPOCH, Bind

_BLOCK = 4096
_KINDS = {"f": 0o100000, "d": 0o040000, "l": 0o120000, "p": 0o010000}
#: Beyond these debugfs takes longer than mke2fs for all: it looks names up one by one.
_MOST = 5000
_LARGEST = 256 << 20
#: Room that an inode of 256 bytes has for attributes; what is longer lies in a block of its own.
_IN_INODE = 92
#: What debugfs can set of an inode in one go.
_MOST_ID = 0xFFFF

#: The metadata alone, or where no file tells which of its blocks are holes, all.
_METADATA = 'e2image -r -o "$1" /tmp/image before'
_ALL = 'dd if=/tmp/image of=before bs=1M skip="$1" count="$2" iflag=skip_bytes,count_bytes conv=sparse status=none'
_RUN = f"""\
set -e
cd /tmp/edit
%s
cp --sparse=always before after
E2FSPROGS_FAKE_TIME={SOURCE_DATE_EPOCH} debugfs -w -f script after >said 2>errors
[ "$(wc -l <errors)" = 1 ] || exit 0
e2fsck -f -n after
"""


class TooDifferent(Exception):
    """The change is one that debugfs cannot make, or not sooner than mke2fs makes all."""


def clusters(
    tools: Tools,
    image: Path,
    before: Tree,
    after: Tree,
    tree: Path,
    work: Path,
    *,
    size: int,
    offset: int = 0,
    binds: Sequence[Bind] = (),
) -> dict[int, bytes]:
    """What the file system of `size` bytes at `offset` of a raw image, which holds `before`, must get to hold `after`:
    clusters of the whole image (number -> bytes), as a qcow2 file has them.  `tree` is where files' content is, with
    `binds` laid over parts of it, at paths below /tmp/tree.

    Raises TooDifferent, also where there is no room left.
    """
    changed = _changed(before, after)
    if not changed:
        return {}
    with tempfile.TemporaryDirectory(dir=work) as name:
        folder = Path(name)
        script = Script(before, after, folder / "values")
        (folder / "script").write_bytes(os.fsencode(script.text(changed)))
        tools.run(
            ["sh", "-c", _RUN % (_METADATA if _tells_blocks(folder) else _ALL), "sh", str(offset), str(size)],
            Bind(image, "/tmp/image"),
            Bind(tree, "/tmp/tree"),
            *binds,
            Bind(folder, "/tmp/edit", writable=True),
        )
        _require_done((folder / "errors").read_text(errors="replace"))
        return _differing(image, offset, folder / "before", folder / "after")


def _changed(before: Tree, after: Tree) -> set[str]:
    """The paths that are other ones afterwards; of a file with several names all, where one is."""
    changed = listing.differing(before, after)
    for names in listing.names_of_one_file(after):
        if not changed.isdisjoint(names):
            changed.update(names)
    if any(_room(before[path]) > _IN_INODE for path in changed if path in before):
        raise TooDifferent  # debugfs leaves their block behind, which is nobody's then
    if len(changed) > _MOST or sum(after[path].size for path in changed if path in after) > _LARGEST:
        raise TooDifferent
    return changed


def _room(entry: Entry) -> int:
    """What an inode needs at most for attributes, in bytes: their heads, names, and values to a multiple of four."""
    return sum(16 + len(name) + len(value) // 2 + 3 for name, value in entry.attributes.items())


def _require_done(errors: str) -> None:
    """debugfs ends with status 0 whatever failed: each line but the one with its version tells of an error."""
    lines = [line for line in errors.splitlines() if line and not line.startswith("debugfs 1.")]
    if any("Could not allocate" in line or "No free space" in line for line in lines):
        raise TooDifferent
    if lines:
        raise BuildError("debugfs could not change a file system: " + lines[0], tail="\n".join(lines[:20]))


# --- what debugfs is told


class Script:
    """The commands that make one tree of another; attributes are handed over in files below `values`."""

    def __init__(self, before: Tree, after: Tree, values: Path) -> None:
        self._before, self._after, self._values = before, after, values
        self._lines: list[str] = []
        self._folder = ""

    def text(self, changed: set[str]) -> str:
        """Commands for these paths.  Raises TooDifferent where one of them cannot be told."""
        self._values.mkdir()
        ordered = sorted(changed, key=os.fsencode)
        for path in reversed(ordered):  # what lies in a folder before the folder
            if path in self._before and not self._stays_folder(path):
                self._say("rmdir" if self._before[path].type == "d" else "rm", f"/{path}")
        groups = {name: names for names in listing.names_of_one_file(self._after) for name in names if name in changed}
        for path in ordered:
            if path in self._after and not self._stays_folder(path):
                self._make(path, groups.get(path, [path]))
        for path in reversed(ordered):
            if path in self._after and groups.get(path, [path])[0] == path:
                self._set(path, len(groups.get(path, [path])))
        return "".join(f"{line}\n" for line in self._lines)

    def _stays_folder(self, path: str) -> bool:
        return all(path in tree and tree[path].type == "d" for tree in (self._before, self._after))

    def _make(self, path: str, names: list[str]) -> None:
        entry = self._after[path]
        folder, _, name = path.rpartition("/")
        if folder != self._folder:
            self._say("cd", f"/{folder}")
            self._folder = folder
        if names[0] != path:
            self._say("ln", f"/{names[0]}", name)
        elif entry.type == "f":
            self._say("write", f"/tmp/tree/{path}", name)
        elif entry.type == "d":
            self._say("mkdir", name)
        elif entry.type == "l":
            self._say("symlink", name, entry.target)
        elif entry.type == "p":
            self._say("mknod", name, "p")
        else:
            raise TooDifferent

    def _set(self, path: str, names: int) -> None:
        """All of an inode as mke2fs would leave it."""
        entry, place = self._after[path], f"/{path}"
        if not 0 <= entry.mtime <= SOURCE_DATE_EPOCH or max(entry.uid, entry.gid) > _MOST_ID:
            raise TooDifferent
        fields = {
            "mode": f"0{_KINDS[entry.type] | entry.mode:o}",
            "uid": str(entry.uid),
            "gid": str(entry.gid),
            "mtime": f"@{entry.mtime}",
            "ctime": "@0",
            "atime": "@0",
            "crtime": f"@{SOURCE_DATE_EPOCH}",
        }
        if names > 1:
            fields["links_count"] = str(names)
        for name, value in fields.items():
            self._say("sif", place, name, value)
        old = self._before[path].attributes if self._stays_folder(path) else {}
        for name in sorted(old.keys() - entry.attributes.keys()):
            self._say("ea_rm", place, name)
        for name, value in sorted(entry.attributes.items()):
            if old.get(name) != value:
                number = len(list(self._values.iterdir()))
                (self._values / str(number)).write_bytes(bytes.fromhex(value))
                self._say("ea_set", "-f", f"/tmp/edit/values/{number}", place, name)

    def _say(self, command: str, *words: str) -> None:
        if any("\n" in word or "\r" in word or not word for word in words):  # a line of a script ends there
            raise TooDifferent
        self._lines.append(" ".join([command, *('"' + word.replace('"', '""') + '"' for word in words)]))


# --- what has changed


def _differing(image: Path, offset: int, before: Path, after: Path) -> dict[int, bytes]:
    """The clusters of the image that differ, as they are to be."""
    found: dict[int, bytearray] = {}
    with image.open("rb", buffering=0) as base, before.open("rb", buffering=0) as old:
        for position, block in _blocks_written(old.fileno(), after):
            place = offset + position
            number, inside = divmod(place, qcow2.CLUSTER)
            if os.pread(base.fileno(), _BLOCK, place) == block:
                continue
            if number not in found:
                found[number] = bytearray(os.pread(base.fileno(), qcow2.CLUSTER, number * qcow2.CLUSTER))
            found[number][inside : inside + _BLOCK] = block
    return {number: bytes(data).ljust(qcow2.CLUSTER, b"\0") for number, data in found.items()}


def _blocks_written(old: int, after: Path) -> Iterator[tuple[int, bytes]]:
    """The blocks that debugfs may have written: those that differ, and those that lay in a hole before."""
    known = list(_data(old, os.fstat(old).st_size))
    with after.open("rb", buffering=0) as new:
        for begin, end in _data(new.fileno(), after.stat().st_size):
            for position in range(begin, end, _BLOCK):
                block = os.pread(new.fileno(), _BLOCK, position)
                place = bisect.bisect(known, (position, sys.maxsize)) - 1
                was_hole = place < 0 or known[place][1] <= position
                if was_hole or block != os.pread(old, _BLOCK, position):
                    yield position, block


def _data(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, in whole blocks: from, to (exclusive)."""
    end = 0
    while end < size:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return  # nothing but a hole from here on
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield begin - begin % _BLOCK, end + -end % _BLOCK


def _tells_blocks(folder: Path) -> bool:
    """Whether files there know for each block if it is a hole; some file systems know it of larger pieces only."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"x" * _BLOCK, 512 << 10)
        return list(_data(file.fileno(), 1 << 20)) == [(512 << 10, (512 << 10) + _BLOCK)]
