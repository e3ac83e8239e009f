"""Layers: how root file systems are stacked while building, and what a layer on disk is.

A layer is `layer.tar.zst`: what changed against the layers below it, in one normal form, so that the same change
always gives the same bytes: entries sorted, times clamped, caches, logs, locks and host keys left out, nothing in it
that is equal below.  A removed name is a character device 0:0, as overlayfs has it, which nothing else can be; a
replaced directory is told name by name, so there is no second way to say the same.  A raw upper directory is never
stacked on: it is written, extracted and mounted.  `layer.list` beside it is the layer's inventory.

What Linux keeps of a file and a layer cannot carry is refused by name, and never lost (`refused.py`).
"""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import inventory, sandbox
from pipeline.errors import UserError
from pipeline.layers import overlay, refused, volatile
from pipeline.layers.cache import LIST, extracted
from pipeline.run import run
from pipeline.step import Input, Job

LAYER = "layer.tar.zst"

#: Mode, owner and group of the top folder where nobody has changed them.
_TOP = (stat.S_IFDIR | 0o755, 0, 0)
_UPPER = "upper"
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
        upper = _folder(job, _UPPER)
        if not layers:
            yield upper
            write(job, upper, None)
            return
        lower = _mounted(stack, job, layers)
        together = inventory.names_of_one_file(contents(layers))
        inventory.take_after(upper, lower)  # of several top folders, overlayfs shows the topmost
        root = _folder(job, "root")
        overlay.mount(root, _trees(stack, job, layers), upper=upper, work=_folder(job, "ovl"))
        stack.callback(sandbox.unmount, root)
        _keep_together(root, together)
        yield root
        write(job, upper, lower, together)


@contextlib.contextmanager
def copied(job: Job) -> Iterator[Path]:
    """The same as `changed` with the same result, on a plain copy of the tree: slower, but no rename is refused."""
    with contextlib.ExitStack() as stack:
        lower = _mounted(stack, job, job.layers)
        root = _folder(job, "copy")
        run(["cp", "--archive", f"{lower}/.", root], timeout=600)
        yield root
        write(job, root, lower, inventory.names_of_one_file(contents(job.layers)), whole=True)


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


def writable(job: Job, tree: Path) -> tuple[Path, Path]:
    """A tree with room for what only this job's output has, and that alone; it goes with the worker."""
    root, upper = _folder(job, "tree"), _folder(job, _UPPER)
    inventory.take_after(upper, tree)
    overlay.mount(root, [tree], upper=upper, work=_folder(job, "ovl"))
    return root, upper


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
    """The layers extracted, topmost first, held until the stack is left.

    Overlayfs takes no tree twice.  Of equal layers the topmost says it all: what it says counts before the others.
    """
    different = {layer.digest: layer for layer in reversed(layers)}
    return [
        stack.enter_context(extracted(layer.file(LAYER), layer.digest, job.pool.parent)) for layer in different.values()
    ]


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

    `linked` are the names of files with several names that are one file below too, `below` are all such names there,
    `secrets` are the names that no layer of a cluster's holds.
    """

    linked: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def write(
    job: Job, upper: Path, lower: Path | None, together: Sequence[Sequence[str]] = (), *, whole: bool = False
) -> None:
    """Write `job.out/layer.tar.zst` and `layer.list`: how `upper` changes `lower`.

    `upper` is a plain tree on nothing, an upper directory over `lower`, or (`whole`) a tree in place of `lower`.
    `together` are the names of each file that has several in `lower`.
    """
    refused.require_kept(upper)
    change = _Change(
        _linked_alike(upper, together),
        frozenset(name for names in together for name in names),
        frozenset(path.removeprefix("/") for path in job.params.get("secrets", ())),
    )
    _compare(change, upper, lower, "", hidden=whole)
    marks = _folder(job, "whiteouts")
    for name in change.removed:
        (marks / name).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(marks / name, stat.S_IFCHR, os.makedev(0, 0))
    changes = _entries(change, upper)
    lists = []
    for label, names in (("removed", change.removed), ("written", [name or "." for name in changes if changes[name]])):
        file = job.work / f"{label}.list"
        file.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in sorted(names, key=os.fsencode)))
        lists.append(file)
    run(
        [
            "tar",
            "--create",
            "--file",
            job.out / LAYER,
            "--use-compress-program",
            "zstd -3 -T2",
            "--format=posix",
            "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
            "--numeric-owner",
            f"--mtime=@{sandbox.SOURCE_DATE_EPOCH}",
            "--clamp-mtime",
            *inventory.TAR_CREATE,
            "--no-recursion",
            "--null",
            "--verbatim-files-from",
            f"--directory={marks}",
            f"--files-from={lists[0]}",
            f"--directory={upper}",
            f"--files-from={lists[1]}",
        ],
        timeout=600,
    )
    (job.out / LIST).write_text(inventory.dump(changes))


def require_kept(job: Job, who: str) -> None:
    """BuildError where a layer could not carry what has been brought to the tree of `changed` so far, by `who`."""
    refused.require_kept(job.work / _UPPER, who)


def contents(layers: Iterable[Input]) -> inventory.Tree:
    """What a stack of layers holds, the lowest given first."""
    return inventory.stacked(inventory.load(layer.file(LIST).read_text()) for layer in layers)


def _entries(change: _Change, upper: Path) -> dict[str, inventory.Entry | None]:
    """The layer's inventory."""
    entries: dict[str, inventory.Entry | None] = dict.fromkeys(change.removed)
    first: dict[int, str] = {}
    for name in change.written:
        place = upper / name
        found = place.lstat()
        entries[name] = inventory.read(
            place,
            found,
            sandbox.SOURCE_DATE_EPOCH,
            first.setdefault(found.st_ino, name) if inventory.has_names(found) else "",
        )
    return entries


def _compare(change: _Change, upper: Path, lower: Path | None, below: str, *, hidden: bool) -> bool:
    """Note how the directory `upper` changes `lower`; whether there was anything to note.

    `hidden` says that the upper directory replaces the lower one: what it does not hold is gone.
    """
    before = len(change.written), len(change.removed)
    with os.scandir(upper) as entries:
        names = {entry.name: entry for entry in entries}
    for name in sorted(names, key=os.fsencode):
        path = f"{below}{name}"
        if path in change.secrets or volatile.left_out(path, names[name]):
            continue
        found = names[name].stat(follow_symlinks=False)
        under = _lstat(lower / name) if lower else None
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            if under:
                change.removed.append(path)
            continue
        if stat.S_ISDIR(found.st_mode):
            over = lower / name if lower and under and stat.S_ISDIR(under.st_mode) else None
            place = len(change.written)
            inside = _compare(
                change, upper / name, over, f"{path}/", hidden=over is not None and (hidden or _is_opaque(upper / name))
            )
            if inside or over is None or not under or not _same_folder(upper / name, found, over, under):
                change.written.insert(place, path)
        elif not stat.S_ISSOCK(found.st_mode):  # which belongs to a running machine
            alike = path in change.linked if inventory.has_names(found) else path not in change.below
            if not (under and lower and alike and _equal(upper / name, found, lower / name, under)):
                change.written.append(path)
    if hidden and lower:
        with os.scandir(lower) as entries:
            change.removed += [
                f"{below}{entry.name}"
                for entry in entries
                if entry.name not in names and not volatile.left_out(f"{below}{entry.name}", entry)
            ]
    if not below and (_access(upper.lstat()), inventory.attributes(upper)) != (_TOP, {}):
        change.written.insert(0, "")  # in every layer: the topmost one counts
    return (len(change.written), len(change.removed)) != before


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, f"{refused.notes()}opaque") == b"y"
    except OSError:
        return False


def _access(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _time(found: os.stat_result) -> int:
    return min(found.st_mtime_ns // 10**9, sandbox.SOURCE_DATE_EPOCH)


def _same_folder(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a folder is what it was.  What is made or removed in it changes its time to now, which says nothing."""
    return (
        _access(found) == _access(under)
        and _time(found) in (_time(under), sandbox.SOURCE_DATE_EPOCH)
        and inventory.attributes(upper) == inventory.attributes(lower)
    )


def _equal(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a file is what it was: content, access, time, attributes and holes."""
    if (_access(found), found.st_size, _time(found)) != (_access(under), under.st_size, _time(under)):
        return False
    if stat.S_ISLNK(found.st_mode):
        return upper.readlink() == lower.readlink()
    if inventory.attributes(upper) != inventory.attributes(lower):
        return False
    return not stat.S_ISREG(found.st_mode) or (
        bool(inventory.holes(upper, found)) == bool(inventory.holes(lower, under))
        and filecmp.cmp(upper, lower, shallow=False)
    )


# --- files with several names


def _keep_together(root: Path, together: Sequence[Sequence[str]]) -> None:
    """Part no file from its other names: overlayfs would, as soon as one of them is written to.

    All are brought to the upper tree at once, as one file; those that stay as they are get into no layer.
    """
    for first, *others in together:
        found = (root / first).lstat()
        os.utime(root / first, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)  # which copies it up
        for name in others:
            folder = (root / name).parent
            times = folder.stat()
            (root / name).unlink()
            os.link(root / first, root / name, follow_symlinks=False)
            os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))


def _linked_alike(upper: Path, together: Sequence[Sequence[str]]) -> frozenset[str]:
    """The names, in `upper`, of files with several names of which all are names of one file below too."""
    below = {name: number for number, names in enumerate(together) for name in names}
    groups: dict[int, list[str]] = {}
    for name, found in _files(upper, "") if below else ():
        if inventory.has_names(found):
            groups.setdefault(found.st_ino, []).append(name)
    return frozenset(
        name
        for names in groups.values()
        if len({below.get(name, -1) for name in names}) == 1
        for name in names
        if name in below
    )


def _files(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """All that is in a tree but folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}", entry.stat(follow_symlinks=False)
