"""A bounded cache of extracted layers in memory, shared by all workers of a user.

A layer is extracted once (a fraction of a second) and then only mounted.  Each has a lock file beside it: whoever
uses a layer holds the lock shared, who extracts or removes it holds it alone; the kernel lets go of it when a process
is killed, so nothing is ever left locked.  A layer appears by rename: what has its name is whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline import sandbox
from pipeline.errors import BuildError
from pipeline.run import run

#: A layer's size in memory is about this many times its compressed size.
_EXPANSION = 4
#: Memory that the cache leaves to others.
_RESERVE = 2 << 30
_WHITEOUT = ".wh."
_MEMORY = Path("/dev/shm")


def folder_for(layer: Path, digest: str, artifacts: Path) -> Path:
    """Where a layer is extracted: in memory where it is already or fits, else below the artifacts folder."""
    needed = layer.stat().st_size * _EXPANSION
    memory = _MEMORY / f"xen-oscar-{sandbox.outer_uid()}"
    if (memory / digest).exists() or (
            _MEMORY.is_dir() and min(sandbox.memory_available() - _RESERVE, _free(_MEMORY)) > needed):
        return _private(memory)
    return _private(artifacts / "cache" / "layers")


def _private(folder: Path) -> Path:
    """The folder, made for us alone; anybody may write to its parent."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BuildError(f"{folder} is not this user's alone", hint=f"remove it: rm -rf {folder}")
    return folder


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


@contextlib.contextmanager
def extracted(layer: Path, digest: str, artifacts: Path) -> Iterator[Path]:
    """The layer as a tree for overlayfs, which stays while the block lasts."""
    folder = folder_for(layer, digest, artifacts)
    tree = folder / digest
    lock = folder / f"{digest}.lock"
    while True:
        with _locked(lock, fcntl.LOCK_SH):
            if tree.exists():
                os.utime(lock)  # the least recently used goes first
                yield tree
                return
        with _locked(lock, fcntl.LOCK_EX):
            if not tree.exists():
                _make_room(folder, layer.stat().st_size * _EXPANSION)
                lock.write_text(str(_extract(layer, tree)))


def clear(artifacts: Path) -> None:
    """Remove every extracted layer that nobody uses."""
    for folder in (_MEMORY / f"xen-oscar-{sandbox.outer_uid()}", artifacts / "cache" / "layers"):
        if folder.exists():
            _make_room(folder, None)


@contextlib.contextmanager
def _locked(file: Path, how: int) -> Iterator[None]:
    """Hold the lock of a layer; a lock file that was removed while we waited is no lock."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            if file.exists() and os.path.samestat(os.fstat(descriptor), file.stat()):
                yield
                return
        finally:
            os.close(descriptor)


def _make_room(folder: Path, needed: int | None) -> None:
    """Remove layers, least recently used first, until `needed` bytes fit (None: all); those in use stay."""
    budget = _budget(folder)
    locks = sorted(folder.glob("*.lock"), key=_last_use)
    sizes = {lock: _noted_size(lock) for lock in locks}
    total = sum(sizes.values())
    for lock in locks:
        if needed is not None and total + needed <= budget:
            return
        try:
            with _locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
                _remove(lock.with_suffix(""))
                lock.unlink()
                total -= sizes[lock]
        except BlockingIOError:
            continue


def _budget(folder: Path) -> int:
    """How much all layers in `folder` may take: a quarter of the memory, or of a disk what is free."""
    if folder.is_relative_to(_MEMORY):
        found = os.statvfs(_MEMORY)
        return min(found.f_blocks * found.f_frsize // 2, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)
    return _free(folder) // 2


def _last_use(lock: Path) -> float:
    try:
        return lock.stat().st_mtime
    except FileNotFoundError:
        return 0


def _noted_size(lock: Path) -> int:
    """A layer's size, noted when it was extracted; a half-extracted one counts as nothing and goes all the same."""
    try:
        return int(lock.read_text() or 0)
    except (FileNotFoundError, ValueError):
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
    """Unpack a layer; whiteouts become what overlayfs takes for one.  Returns its size."""
    part = tree.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    run(["tar", "--extract", "--file", layer, "--use-compress-program", "zstd -d", "--directory", part,
         "--numeric-owner", "--same-owner", "--preserve-permissions", "--delay-directory-restore",
         "--xattrs", "--xattrs-include=security.capability"], timeout=600)
    size = 0
    for folder, _, names in os.walk(part):
        for name in names:
            file = Path(folder, name)
            size += file.lstat().st_blocks * 512
            if name.startswith(_WHITEOUT):
                times = file.parent.stat()
                file.unlink()
                os.mknod(file.with_name(name.removeprefix(_WHITEOUT)), stat.S_IFCHR, os.makedev(0, 0))
                os.utime(file.parent, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(part, (sandbox.SOURCE_DATE_EPOCH, sandbox.SOURCE_DATE_EPOCH))
    part.rename(tree)
    return size


if __name__ == "__main__":  # behind `sandbox.namespace()`: files of an ordinary user's layers belong to mapped users
    sandbox.settle()
    clear(Path(sys.argv[1]))
