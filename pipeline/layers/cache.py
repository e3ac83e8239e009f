"""A bounded cache of extracted layers in memory, shared by all workers of a user.

A layer is extracted once (a fraction of a second) and then only mounted.  Each has a lock file beside it: whoever
uses a layer holds the lock shared, who extracts or removes it holds it alone; the kernel lets go of it when a process
is killed, so nothing is ever left locked.  A layer appears by rename.

That it has its name does not make it whole: logind removes what an ordinary user owns in /dev/shm when they log out
(RemoveIPC=, systemd's clean-ipc.c), a power cut leaves folders without their files, people make mistakes.  So when a
layer has been extracted a seal is noted in its lock file: the boot, and a digest over the name, inode, size and time of
last change of all that it holds.  It is compared after each use: what was whole then was so all along, for nobody can
set back the time of the last change.  Where it differs all that was made of the layer is worth nothing (`Spoiled`: the
builder is run once more), and the layer is extracted anew; so is one from before the machine was last started.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pipeline import inventory, sandbox
from pipeline.errors import BuildError
from pipeline.locks import Busy, locked
from pipeline.run import run
from pipeline.step import Spoiled

#: The inventory beside a layer.
LIST = "layer.list"
#: A layer's size in memory is about this many times its compressed size.
_EXPANSION = 4
#: Memory that the cache leaves to others.
_RESERVE = 2 << 30
_MEMORY = Path("/dev/shm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def folders(artifacts: Path) -> tuple[Path, ...]:
    """Where layers are extracted, made for root in our namespaces alone: in memory if there is any, and on disk."""
    who = sandbox.identity()
    places = [_memory(who.base or who.uid or sandbox.outer_uid())] if _MEMORY.is_dir() else []
    for place in (*places, _disk(artifacts)):
        if place.exists() and place.lstat().st_uid == os.geteuid() != who.uid:  # from before there was such a root
            shutil.rmtree(place, ignore_errors=True)
        if not place.exists():
            _make_for_root_inside(place)
        _require_private(place, who.uid)
    return (*places, _disk(artifacts))


def _make_for_root_inside(place: Path) -> None:
    """Nobody sees it before it is root's in there: two steps may want it at the same time."""
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    sandbox.give(made)
    try:
        made.rename(place)
    except OSError as error:
        made.rmdir()
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # somebody else was first, and has put something there
            raise


def _memory(uid: int) -> Path:
    return _MEMORY / f"xen-oscar-{uid}"


def _disk(artifacts: Path) -> Path:
    return artifacts / "cache" / "layers"


def folder_for(layer: Path, digest: str, artifacts: Path) -> Path:
    """Where a layer is extracted: in memory where it is already or fits, else below the artifacts folder."""
    needed = layer.stat().st_size * _EXPANSION
    memory = _memory(sandbox.outer_uid())
    if memory.is_dir() and (
        (memory / digest).exists()
        or (
            min(sandbox.memory_available() - _RESERVE, _free(memory)) > needed
            and (_holds_attributes(memory) or '"user.' not in layer.with_name(LIST).read_text())
        )
    ):
        return _private(memory)
    return _private(_disk(artifacts))


def _holds_attributes(folder: Path) -> bool:
    """Whether files there can have attributes of users; in memory they can since Linux 6.6."""
    try:
        os.setxattr(folder, "user.test", b"")
        os.removexattr(folder, "user.test")
    except OSError:
        return False
    return True


def _private(folder: Path) -> Path:
    """The folder, made for us alone; anybody may write to its parent."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_private(folder, os.geteuid())
    return folder


def _require_private(folder: Path, owner: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise BuildError(f"{folder} is not this user's alone", hint=f"remove it: rm -rf {folder}")


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@dataclass(frozen=True)
class _Seal:
    """What is noted of an extracted layer: what it was like when that was done, and the bytes that it takes."""

    boot: str
    digest: str
    size: int

    @classmethod
    def of(cls, tree: Path, size: int) -> Self:
        digest = hashlib.sha256()
        _add_to(digest, os.fspath(tree))
        return cls(_BOOT_ID.read_text().strip(), digest.hexdigest(), size)

    @classmethod
    def noted(cls, lock: Path) -> Self:
        """As it stands in a lock file; of a layer that is half extracted, or was by an older version, no seal fits."""
        try:
            boot, digest, size = lock.read_text().split()
            return cls(boot, digest, int(size))
        except (FileNotFoundError, ValueError):
            return cls("", "", 0)

    def is_of(self, tree: Path) -> bool:
        """Whether it was made of that layer since the machine was last started, as far as that is seen at a glance."""
        return tree.is_dir() and self.boot == _BOOT_ID.read_text().strip()

    def fits(self, tree: Path) -> bool:
        return self.is_of(tree) and self == type(self).of(tree, self.size)

    def __str__(self) -> str:
        return f"{self.boot} {self.digest} {self.size}"


def _add_to(digest: hashlib._Hash, folder: str) -> None:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            found = entry.stat(follow_symlinks=False)
            digest.update(b"%s\0%d %d %d\0" % (os.fsencode(entry.name), found.st_ino, found.st_size, found.st_ctime_ns))
            if stat.S_ISDIR(found.st_mode):
                _add_to(digest, entry.path)
                digest.update(b"/")


@contextlib.contextmanager
def extracted(layer: Path, digest: str, artifacts: Path, *, compared: bool = False) -> Iterator[Path]:
    """The layer as a tree for overlayfs, which stays while the block lasts, and was whole all along if it ends well.

    Raises Spoiled at its end, whatever has happened in the block, if it was not.  Where the block itself has `compared`
    all that it reads, that is only asked when it has failed.
    """
    folder = folder_for(layer, digest, artifacts)
    tree = folder / digest
    lock = tree.with_suffix(".lock")
    while True:
        with locked(lock, shared=True):
            seal = _Seal.noted(lock)
            if seal.is_of(tree):
                os.utime(lock)  # the least recently used goes first
                is_good = False
                try:
                    yield tree
                    is_good = compared
                finally:
                    if not (is_good or seal.fits(tree)):
                        lock.write_text("")  # so no seal fits, and who comes next extracts it
                        raise Spoiled(
                            f"an extracted layer is not what it was: somebody has removed or changed files in {folder}",
                            hint="run again",
                        )
                return
        _make(layer, tree, lock)


def _make(layer: Path, tree: Path, lock: Path) -> None:
    """Extract a layer unless somebody else just has; who waits for that does not wait for what they do with it."""
    making = tree.with_suffix(".making")
    with locked(making):
        with locked(lock, shared=True):
            there = _Seal.noted(lock).fits(tree)
        if not there:
            with locked(lock):
                _remove(tree)
                _make_room(tree.parent, layer.stat().st_size * _EXPANSION)
                lock.write_text(str(_Seal.of(tree, _extract(layer, tree))))
        making.unlink()


def clear(artifacts: Path) -> None:
    """Remove every extracted layer that nobody uses."""
    for folder in (_memory(sandbox.outer_uid()), _disk(artifacts)):
        if folder.exists():
            _make_room(folder, None)


def _make_room(folder: Path, needed: int | None) -> None:
    """Remove layers, least recently used first, until `needed` bytes fit (None: all); those in use stay."""
    budget = _budget(folder)
    locks = sorted(folder.glob("*.lock"), key=_last_use)
    sizes = {lock: _Seal.noted(lock).size for lock in locks}
    total = sum(sizes.values())
    for lock in locks:
        if needed is not None and total + needed <= budget:
            return
        with contextlib.suppress(Busy), locked(lock, within=0):
            _remove(lock.with_suffix(""))
            lock.unlink()
            total -= sizes[lock]


def _budget(folder: Path) -> int:
    """How much all layers in `folder` may take: a quarter of the memory, or of a disk what is free."""
    if folder.is_relative_to(_MEMORY):
        found = os.statvfs(folder)
        return min(found.f_blocks * found.f_frsize // 2, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    return _free(folder) // 2


def _last_use(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0


def _remove(tree: Path) -> None:
    """Take a layer's name away first: what has it must be whole."""
    part = tree.with_suffix(".part")
    if tree.exists():
        shutil.rmtree(part, ignore_errors=True)
        tree.rename(part)
    if part.exists():
        shutil.rmtree(part)


def _extract(layer: Path, tree: Path) -> int:
    """Unpack a layer as overlayfs takes it.  Returns its size."""
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    done = run(
        [
            "tar",
            "--extract",
            "--file",
            layer,
            "--use-compress-program",
            "zstd -d",
            "--directory",
            part,
            "--numeric-owner",
            "--same-owner",
            "--preserve-permissions",
            "--delay-directory-restore",
            *inventory.TAR,
        ],
        timeout=600,
    )
    if done.stderr:  # what tar could not do and calls a warning
        raise BuildError(f"a layer cannot be extracted to {part.parent}", tail=done.stderr)
    size = sum(
        os.lstat(os.path.join(folder, name)).st_blocks * 512 for folder, _, names in os.walk(part) for name in names
    )
    os.utime(part, (sandbox.SOURCE_DATE_EPOCH, sandbox.SOURCE_DATE_EPOCH))
    part.rename(tree)
    return size


if __name__ == "__main__":  # behind `sandbox.namespace()`: files of an ordinary user's layers belong to mapped users
    sandbox.settle()
    clear(Path(sys.argv[1]))
