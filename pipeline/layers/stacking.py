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
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline import inventory, listing, sandbox
from pipeline.errors import UserError
from pipeline.layers import overlay, refused
from pipeline.layers.cache import LIST, extracted
from pipeline.layers.comparing import Change, compared
from pipeline.run import run
from pipeline.step import Input, Job

LAYER = "layer.tar.zst"

_UPPER = "upper"
#: How programs tell that a rename was refused because both ends are not on one device.
_REFUSED_RENAME = re.compile(r"cross-device link|\bEXDEV\b")


@contextlib.contextmanager
def stacked(job: Job, layers: Sequence[Input] | None = None, *, compared: bool = False) -> Iterator[Path]:
    """The job's layers (or those given, lowest first) as one read-only tree.

    `compared` says that what is read of it is compared with the inventories, and an error raised where it differs.
    """
    with contextlib.ExitStack() as stack:
        trees = _trees(stack, job, job.layers if layers is None else layers, compared=compared)
        yield _mounted(stack, job, trees)


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
        trees = _trees(stack, job, layers)
        lower = _mounted(stack, job, trees)
        together = listing.names_of_one_file(contents(layers))
        inventory.take_after(upper, lower)  # of several top folders, overlayfs shows the topmost
        root = _folder(job, "root")
        overlay.mount(root, trees, upper=upper, work=_folder(job, "ovl"))
        stack.callback(sandbox.unmount, root)
        _keep_together(root, together)
        yield root
        write(job, upper, lower, together)


@contextlib.contextmanager
def copied(job: Job) -> Iterator[Path]:
    """The same as `changed` with the same result, on a plain copy of the tree: slower, but no rename is refused."""
    with contextlib.ExitStack() as stack:
        lower = _mounted(stack, job, _trees(stack, job, job.layers))
        root = _folder(job, "copy")
        run(["cp", "--archive", f"{lower}/.", root], timeout=600)
        yield root
        write(job, root, lower, listing.names_of_one_file(contents(job.layers)), whole=True)


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


def _trees(stack: contextlib.ExitStack, job: Job, layers: Sequence[Input], *, compared: bool = False) -> list[Path]:
    """The layers extracted, topmost first, held until the stack is left.

    Overlayfs takes no tree twice.  Of equal layers the topmost says it all: what it says counts before the others.
    """
    different = {layer.digest: layer for layer in reversed(layers)}
    return [
        stack.enter_context(extracted(layer.file(LAYER), layer.digest, job.pool.parent, compared=compared))
        for layer in different.values()
    ]


def _mounted(stack: contextlib.ExitStack, job: Job, layers: Sequence[Path]) -> Path:
    """Extracted layers, topmost first, read-only at a mount point of their own."""
    root = _folder(job, "lower")
    # overlayfs wants two trees at least
    trees = [*layers, _folder(job, "empty")]
    os.utime(trees[-1], (sandbox.SOURCE_DATE_EPOCH, sandbox.SOURCE_DATE_EPOCH))
    overlay.mount(root, trees)
    stack.callback(sandbox.unmount, root)
    return root


# --- what changed


def write(
    job: Job, upper: Path, lower: Path | None, together: Sequence[Sequence[str]] = (), *, whole: bool = False
) -> None:
    """Write `job.out/layer.tar.zst` and `layer.list`: how `upper` changes `lower`.

    `upper` is a plain tree on nothing, an upper directory over `lower`, or (`whole`) a tree in place of `lower`.
    `together` are the names of each file that has several in `lower`.
    """
    refused.require_kept(upper)
    secrets = (path.removeprefix("/") for path in job.params.get("secrets", ()))
    change = compared(upper, lower, together, secrets, whole=whole)
    marks = _folder(job, "whiteouts")
    for name in change.removed:
        (marks / name).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(marks / name, stat.S_IFCHR, os.makedev(0, 0))
    lists = []
    for label, names in (("removed", change.removed), ("written", [name or "." for name in change.written])):
        file = job.work / f"{label}.list"
        file.write_bytes(b"".join(os.fsencode(name) + b"\0" for name in sorted(names, key=os.fsencode)))
        lists.append(file)
    with ThreadPoolExecutor(1) as beside:  # both read all files, and tar waits for what compresses
        changes = beside.submit(_entries, change, upper)
        _pack(job, marks, upper, lists)
        (job.out / LIST).write_text(listing.dump(changes.result()))


def _pack(job: Job, marks: Path, upper: Path, lists: Sequence[Path]) -> None:
    """The layer itself: the names in the first list, which are in `marks`, and those in the second, in `upper`."""
    run(
        [
            "tar",
            "--create",
            "--file",
            job.out / LAYER,
            "--use-compress-program",
            "zstd -2 -T2",
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


def require_kept(job: Job, who: str, known: refused.Known) -> None:
    """BuildError where a layer could not carry what has been brought to the tree of `changed` so far, by `who`.

    What is `known` from an earlier time is not looked at again, for it may be asked often; `write` looks at all.
    """
    refused.require_kept(job.work / _UPPER, who, known)


def contents(layers: Iterable[Input]) -> listing.Listing[inventory.Entry]:
    """What a stack of layers holds, the lowest given first."""
    return listing.stacked(listing.load(layer.file(LIST).read_text()) for layer in layers)


def _entries(change: Change, upper: Path) -> dict[str, inventory.Entry | None]:
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
