"""Layers: how root file systems are stacked while building, and what a layer on disk is.

A layer is `layer.tar.zst`: what changed against the layers below it, in one normal form, so that the same change
always gives the same bytes: entries sorted, times clamped, caches, logs, locks and host keys left out, nothing in it
that is equal below.  A removed name is a character device 0:0, as overlayfs has it, which nothing else can be; a
replaced directory is told name by name, so there is no second way to say the same.  A raw upper directory is never
stacked on: it is written, extracted and mounted.  `layer.list` beside it is the layer's inventory.

What Linux keeps of a file and a layer cannot carry is refused by name, and never lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import os
import re
import stat
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import confine, inventory, sandbox
from pipeline.build import volatile
from pipeline.build.lowers import LIST, extracted
from pipeline.errors import BuildError
from pipeline.run import run
from pipeline.step import Input, Job

LAYER = "layer.tar.zst"
#: What the host program `step.tools` of every builder that writes layers must name.
TOOLS = ("tar", "zstd")

#: Mode, owner and group of the top folder where nobody has changed them.
_TOP = (stat.S_IFDIR | 0o755, 0, 0)
#: What chattr can say of a file on any file system; a whole file system may have a flag for all that is on it.
_FLAGS = {0x08: "S", 0x10: "i", 0x20: "a", 0x40: "d", 0x80: "A", 0x10000: "D"}
#: FS_IOC_GETFLAGS.
_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
#: Bytes of a folder's path; the kernel takes 4096 for a whole one, and builders and installers put theirs in front.
_LONGEST = 3072
#: Bytes that ext4 has for the extended attributes of one file, in a block of their own.
_ATTRIBUTES = 4060


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
        together = inventory.names_of_one_file(contents(layers))
        inventory.take_after(upper, lower)  # of several top folders, overlayfs shows the topmost
        root = _folder(job, "root")
        trees = [str(tree) for tree in _trees(stack, job, layers)]
        _overlay(root, [f"upperdir={_quoted(upper)}", f"workdir={_quoted(_folder(job, 'ovl'))}"], trees)
        stack.callback(sandbox.unmount, root)
        _keep_together(root, together)
        yield root
        write(job, upper, lower, together)


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
    return [stack.enter_context(extracted(layer.file(LAYER), layer.digest, job.pool.parent))
            for layer in different.values()]


def _mounted(stack: contextlib.ExitStack, job: Job, layers: Sequence[Input]) -> Path:
    """The layers read-only at a mount point of their own."""
    root = _folder(job, "lower")
    # overlayfs wants two trees at least
    trees = [*_trees(stack, job, layers), _folder(job, "empty")]
    os.utime(trees[-1], (sandbox.SOURCE_DATE_EPOCH, sandbox.SOURCE_DATE_EPOCH))
    _overlay(root, [], [str(tree) for tree in trees])
    stack.callback(sandbox.unmount, root)
    return root


def _overlay(root: Path, options: Sequence[str], lowers: Sequence[str]) -> None:
    words = [f"lowerdir={':'.join(_quoted(tree) for tree in lowers)}", *options, "index=off", "redirect_dir=off"]
    if sandbox.in_user_namespace():
        words[-2:] = ["userxattr"]  # which takes no redirects
    else:
        words.append("metacopy=off")
    sandbox.mount("overlay", root, "overlay", options=",".join(words),
                  flags=0 if options else confine.MS_RDONLY)


def _quoted(path: str | Path) -> str:
    return re.sub(r"([\\,:])", r"\\\1", str(path))


# --- what changed


@dataclass
class _Change:
    """What a layer says: names to write from the upper tree, names to remove.

    `linked` are the names of files with several names that are one file below too, `below` are all such names there;
    `flags` are those of the upper tree's top folder.
    """

    flags: int
    linked: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    written: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)


def write(job: Job, upper: Path, lower: Path | None, together: Sequence[Sequence[str]] = ()) -> None:
    """Write `job.out/layer.tar.zst` and `layer.list`: how `upper` (a plain tree, or an upper directory over `lower`)
    changes `lower`.  `together` are the names of each file that has several in `lower`."""
    change = _Change(_flags(upper, upper.lstat()), _linked_alike(upper, together),
                     frozenset(name for names in together for name in names))
    _compare(change, upper, lower, "", hidden=False)
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
    run(["tar", "--create", "--file", job.out / LAYER, "--use-compress-program", "zstd -3 -T2", "--format=posix",
         "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "--numeric-owner",
         f"--mtime=@{sandbox.SOURCE_DATE_EPOCH}", "--clamp-mtime", *inventory.TAR_CREATE,
         "--no-recursion", "--null", "--verbatim-files-from",
         f"--directory={marks}", f"--files-from={lists[0]}", f"--directory={upper}", f"--files-from={lists[1]}"],
        timeout=600)
    (job.out / LIST).write_text(inventory.dump(changes))


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
        entries[name] = inventory.read(place, found, sandbox.SOURCE_DATE_EPOCH,
                                       first.setdefault(found.st_ino, name) if inventory.has_names(found) else "")
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
        if _left_out(path, names[name]):
            continue
        found = names[name].stat(follow_symlinks=False)
        under = _lstat(lower / name) if lower else None
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            if under:
                change.removed.append(path)
            continue
        _require_kept(path, upper / name, found, change.flags)
        if stat.S_ISDIR(found.st_mode):
            if len(os.fsencode(path)) > _LONGEST:
                raise BuildError(f"{inventory.shown(path[:60])}...: a folder so deep that its path has more than "
                                 f"{_LONGEST} bytes", hint="tools that copy files stop at 4096")
            over = lower / name if lower and under and stat.S_ISDIR(under.st_mode) else None
            place = len(change.written)
            inside = _compare(change, upper / name, over, f"{path}/",
                              hidden=over is not None and (hidden or _is_opaque(upper / name)))
            if inside or over is None or not under or not _same_folder(upper / name, found, over, under):
                change.written.insert(place, path)
        elif _is_kept(path, found):
            alike = path in change.linked if inventory.has_names(found) else path not in change.below
            if not (under and lower and alike and _equal(upper / name, found, lower / name, under)):
                change.written.append(path)
    if hidden and lower:
        with os.scandir(lower) as entries:
            change.removed += [f"{below}{entry.name}" for entry in entries
                               if entry.name not in names and not _left_out(f"{below}{entry.name}", entry)]
    if not below and (_access(upper.lstat()), inventory.attributes(upper)) != (_TOP, {}):
        change.written.insert(0, "")  # in every layer: the topmost one counts
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


def _is_kept(path: str, found: os.stat_result) -> bool:
    """Sockets belong to a running machine, and so do devices, which an ordinary user could not even make."""
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        raise BuildError(f"/{inventory.shown(path)} is a device: no image can hold one",
                         hint="let the machine make it when it starts: tmpfiles.d or udev")
    return not stat.S_ISSOCK(found.st_mode)


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, f"{_own()}opaque") == b"y"
    except OSError:
        return False


def _own() -> str:
    """What the names of overlayfs' own notes begin with."""
    return "user.overlay." if sandbox.in_user_namespace() else "trusted.overlay."


def _require_kept(path: str, place: Path, found: os.stat_result, usual: int) -> None:
    """An error for what Linux has noted of a file, and an image could not hold; `usual` flags are all files' here."""
    names, own = inventory.attribute_names(place), _own()
    flags = "".join(sign for flag, sign in _FLAGS.items() if _flags(place, found) & ~usual & flag)
    if f"{own}protattr" in names:  # where overlayfs notes i and a
        flags += os.getxattr(place, f"{own}protattr").decode()
    if flags:
        raise BuildError(f"/{inventory.shown(path)} has the flag {flags} of chattr: no image can hold that",
                         hint="let the machine set it when it starts")
    size = 0
    for name in names:
        kind, _, rest = name.partition(".")
        if inventory.KEPT.fullmatch(name):
            value = os.getxattr(place, name, follow_symlinks=False)
            size += 16 + sum(-(-length // 4) * 4 for length in (len(os.fsencode(rest)), len(value)))
        elif kind in ("user", "trusted") and (not name.startswith(own) or name.startswith(f"{own}overlay.")):
            raise BuildError(f"/{inventory.shown(path)} has the attribute {inventory.shown(name)}: no image holds it",
                             hint="names of users' attributes begin with user., and not with user.overlay.")
    if size > _ATTRIBUTES:
        raise BuildError(f"/{inventory.shown(path)} has {size} bytes of extended attributes",
                         hint=f"a file of ext4 can have {_ATTRIBUTES}")


def _flags(place: Path, found: os.stat_result) -> int:
    """The flags that a file system keeps of a file or folder; 0 where it keeps none."""
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return 0
    descriptor = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8))[:4], sys.byteorder)
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _access(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mode, found.st_uid, found.st_gid


def _time(found: os.stat_result) -> int:
    return min(found.st_mtime_ns // 10**9, sandbox.SOURCE_DATE_EPOCH)


def _same_folder(upper: Path, found: os.stat_result, lower: Path, under: os.stat_result) -> bool:
    """Whether a folder is what it was.  Whatever is made or removed in it changes its time to now, which says nothing.
    """
    return (_access(found) == _access(under) and _time(found) in (_time(under), sandbox.SOURCE_DATE_EPOCH)
            and inventory.attributes(upper) == inventory.attributes(lower))


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
        and filecmp.cmp(upper, lower, shallow=False))


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
    return frozenset(name for names in groups.values() if len({below.get(name, -1) for name in names}) == 1
                     for name in names if name in below)


def _files(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    """All that is in a tree but folders."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(folder / entry.name, f"{below}{entry.name}/")
            else:
                yield f"{below}{entry.name}", entry.stat(follow_symlinks=False)
