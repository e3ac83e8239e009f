"""Layers: how root file systems are stacked while building, and what a layer on disk is.

A layer is `layer.tar.zst`: what changed against the layers below it, in one normal form, so that the same change
always gives the same bytes: entries sorted, times clamped, caches, logs, locks and host keys left out, nothing in it
that is equal below.  A removed name is an empty file `.wh.NAME`; a replaced directory is told name by name, so there
is no second way to say the same.  A raw upper directory is never stacked on: it is written, extracted and mounted.
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import sandbox
from pipeline.build import overlay, volatile
from pipeline.build.lowers import extracted
from pipeline.errors import UserError
from pipeline.run import run
from pipeline.step import Input, Job

LAYER = "layer.tar.zst"
#: What the host program `step.tools` of every builder that writes layers must name.
TOOLS = ("tar", "zstd")

_CAPABILITY = "security.capability"
#: How programs tell that a rename was refused because both ends are not on one device.
_REFUSED_RENAME = re.compile(r"cross-device link|\bEXDEV\b")


@contextlib.contextmanager
def stacked(job: Job, layers: Sequence[Input] | None = None) -> Iterator[Path]:
    """The job's layers (or those given, lowest first) as one read-only tree."""
    with contextlib.ExitStack() as stack:
        yield _mounted(stack, job, job.layers if layers is None else layers)


@contextlib.contextmanager
def changed(job: Job, layers: Sequence[Input] | None = None) -> Iterator[Path]:
    """The same tree to write to; leaving the block normally writes what changed to `layer.tar.zst`."""
    layers = job.layers if layers is None else layers
    with contextlib.ExitStack() as stack:
        upper = _folder(job, "upper")
        if not layers:
            yield upper
            write(job, upper, None)
            return
        lower = _mounted(stack, job, layers)
        root = _folder(job, "root")
        overlay.mount(root, _trees(stack, job, layers), upper=upper, work=_folder(job, "ovl"))
        stack.callback(sandbox.unmount, root)
        yield root
        write(job, upper, lower)


@contextlib.contextmanager
def copied(job: Job) -> Iterator[Path]:
    """The same as `changed` with the same result, on a plain copy of the tree: slower, but no rename is refused."""
    with contextlib.ExitStack() as stack:
        lower = _mounted(stack, job, job.layers)
        root = _folder(job, "copy")
        run(["cp", "--archive", f"{lower}/.", root], timeout=600)
        yield root
        write(job, root, lower, whole=True)


def change(job: Job, how: Callable[[Path], None]) -> None:
    """Have `how` change the job's layers, and write what it changed.

    Overlayfs, as Linux lets users have it, refuses to rename a folder of a lower layer.  mv copes; dpkg, where a folder
    becomes a file, and some scripts do not.  That is seldom, so all is done anew on a copy only when it was refused.
    """
    try:
        with changed(job) as root:
            how(root)
    except UserError as error:
        if not job.layers or not _REFUSED_RENAME.search(f"{error.message}\n{error.tail}"):
            raise
        with copied(job) as root:
            how(root)


def writable(job: Job, tree: Path) -> Path:
    """A tree with room for what only this job's output has; what is written there goes with the worker."""
    root = _folder(job, "tree")
    overlay.mount(root, [tree], upper=_folder(job, "upper"), work=_folder(job, "ovl"))
    return root


def _folder(job: Job, name: str) -> Path:
    """A new folder in the job's scratch space."""
    for number in range(1000):
        folder = job.work / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise RuntimeError(f"{job.work} is full of {name}")


def _trees(stack: contextlib.ExitStack, job: Job, layers: Sequence[Input]) -> list[Path]:
    """The layers extracted, topmost first, held until the stack is left."""
    trees = [stack.enter_context(extracted(layer.file(LAYER), layer.digest, job.pool.parent)) for layer in layers]
    return trees[::-1]


def _mounted(stack: contextlib.ExitStack, job: Job, layers: Sequence[Input]) -> Path:
    """The layers read-only at a mount point of their own."""
    root = _folder(job, "lower")
    # overlayfs wants two trees at least
    trees = [*_trees(stack, job, layers), _folder(job, "empty")]
    os.utime(trees[-1], (sandbox.SOURCE_DATE_EPOCH, sandbox.SOURCE_DATE_EPOCH))
    overlay.mount(root, trees)
    stack.callback(sandbox.unmount, root)
    return root


# --- what changed


@dataclass
class _Change:
    """What a layer says: names to write from the upper tree, names to remove.

    `linked` are the files of the upper tree that are hard links of the same files as below; others with several links
    were linked anew.
    """

    linked: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def write(job: Job, upper: Path, lower: Path | None, *, whole: bool = False) -> None:
    """Write `job.out/layer.tar.zst`: how `upper` changes `lower`.

    `upper` is a plain tree on nothing, an upper directory over `lower`, or (`whole`) a tree in place of `lower`.
    """
    change = _Change(_linked_alike(upper, lower) if whole and lower else frozenset())
    _compare(change, upper, lower, "", hidden=whole)
    marks = _folder(job, "whiteouts")
    for name in change.removed:
        mark = marks / Path(name).with_name(f".wh.{Path(name).name}")
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    lists = []
    for label, names in (("removed", [str(Path(name).with_name(f".wh.{Path(name).name}")) for name in change.removed]),
                         ("written", change.written)):
        file = job.work / f"{label}.list"
        file.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in sorted(names, key=os.fsencode)))
        lists.append(file)
    run(["tar", "--create", "--file", job.out / LAYER, "--use-compress-program", "zstd -3 -T2", "--format=posix",
         "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--numeric-owner",
         f"--mtime=@{sandbox.SOURCE_DATE_EPOCH}", "--clamp-mtime", "--xattrs", f"--xattrs-include={_CAPABILITY}",
         "--no-recursion", "--null", "--verbatim-files-from",
         f"--directory={marks}", f"--files-from={lists[0]}", f"--directory={upper}", f"--files-from={lists[1]}"],
        timeout=600)


def _compare(change: _Change, upper: Path, lower: Path | None, below: str, *, hidden: bool) -> bool:
    """Note how the directory `upper` changes `lower`; whether there was anything to note.

    `hidden` says that the upper directory replaces the lower one: what it does not hold is gone.
    """
    before = len(change.written), len(change.removed)
    with os.scandir(upper) as entries:
        names = {entry.name: entry for entry in entries}
    for name in sorted(names, key=os.fsencode):
        path = f"{below}{name}"
        if _left_out(path, names[name]):
            continue
        found = names[name].stat(follow_symlinks=False)
        under = _lstat(lower / name) if lower else None
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            if under:
                change.removed.append(path)
        elif stat.S_ISDIR(found.st_mode):
            over = lower / name if lower and under and stat.S_ISDIR(under.st_mode) else None
            place = len(change.written)
            inside = _compare(change, upper / name, over, f"{path}/",
                              hidden=over is not None and (hidden or _is_opaque(upper / name)))
            if inside or over is None or not under or _access(found) != _access(under):
                change.written.insert(place, path)
        elif _is_kept(found) and not (under and lower and _equal(upper / name, found, lower / name, under)
                                      and (found.st_nlink == 1 or path in change.linked)):
            change.written.append(path)
    if hidden and lower:
        with os.scandir(lower) as entries:
            change.removed += [f"{below}{entry.name}" for entry in entries
                               if entry.name not in names and not _left_out(f"{below}{entry.name}", entry)]
    return (len(change.written), len(change.removed)) != before


def _left_out(path: str, entry: os.DirEntry[str]) -> bool:
    if volatile.SCRATCH.fullmatch(path):
        return True
    if entry.is_dir(follow_symlinks=False):
        return False
    is_log = volatile.LOG.fullmatch(path) and entry.is_file(follow_symlinks=False)
    if is_log and entry.stat(follow_symlinks=False).st_size > 0:
        return True
    return volatile.MADE_ANEW.fullmatch(path) is not None


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_kept(found: os.stat_result) -> bool:
    """Sockets and device nodes belong to a running machine; an ordinary user could not even make them."""
    return stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) or stat.S_ISFIFO(found.st_mode)


def _is_opaque(folder: Path) -> bool:
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        with contextlib.suppress(OSError):
            if os.getxattr(folder, name) == b"y":
                return True
    return False


def _access(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _equal(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a file is what it was: content, access, time and capabilities."""
    if _access(found) != _access(under) or found.st_size != under.st_size:
        return False
    if min(int(found.st_mtime), sandbox.SOURCE_DATE_EPOCH) != min(int(under.st_mtime), sandbox.SOURCE_DATE_EPOCH):
        return False
    if stat.S_ISLNK(found.st_mode):
        return upper.readlink() == lower.readlink()
    return _capability(upper) == _capability(lower) and filecmp.cmp(upper, lower, shallow=False)


def _linked_alike(upper: Path, lower: Path) -> frozenset[str]:
    """The files that share their content with the same other files in both trees."""
    return frozenset(name for group in _link_groups(upper) & _link_groups(lower) for name in group)


def _link_groups(root: Path) -> set[frozenset[str]]:
    groups: dict[int, set[str]] = {}
    for folder, _, names in os.walk(root):
        for name in names:
            found = os.lstat(os.path.join(folder, name))
            if found.st_nlink > 1:
                groups.setdefault(found.st_ino, set()).add(os.path.relpath(os.path.join(folder, name), root))
    return set(map(frozenset, groups.values()))


def _capability(path: Path) -> bytes | None:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return None
