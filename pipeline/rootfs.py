"""A root file system from outside, opened from within: no link that stands in it leads out of it.

Maintainer scripts and scripts of OPKGs may have put a link in place of any folder, absolute or with as many `..` as
they like.  Whoever reads or writes below such a root by joining paths reads and writes the files of this machine.  So
builders go through this class alone: a path means what it means to a process that has the root as `/` (openat2(2)
with RESOLVE_IN_ROOT), and what is made, replaced or removed is the last name itself, never what a link points at.

Errors are OSErrors whose `filename` is the path inside.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Self

#: The same number on every architecture (asm-generic/unistd.h); Linux 5.6 has it first.
_SYS_OPENAT2 = 437
#: linux/openat2.h.  Magic links are those of /proc, like /proc/self/exe, which lead anywhere.
_NO_MAGIC_LINKS, _NO_LINKS, _IN_ROOT = 0x02, 0x04, 0x10
#: As many links as the kernel itself follows on one way.
_MOST_LINKS = 40

#: What stands in the way of a file that is written, by the error that it makes.
IN_THE_WAY = {
    errno.EISDIR: "there is a folder",
    errno.ENOTDIR: "a file stands where it needs a folder",
    errno.EEXIST: "a file stands where it needs a folder",
    errno.ELOOP: "links on the way lead in a circle",
    errno.ENAMETOOLONG: "its name is too long",
}

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    """struct open_how."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class RootFs:
    """The root file system whose top folder is `top`; a context manager that holds it open.

    Paths are given with or without a slash in front.  `OSError` where something is missing or of another kind.
    """

    def __init__(self, top: Path) -> None:
        self.top = top
        self._descriptor = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    # --- looking

    def lstat(self, path: str) -> os.stat_result | None:
        """The status of a name, of the link itself if it is one; None where nothing is there."""
        return self._status(path, os.O_NOFOLLOW)

    def stat(self, path: str) -> os.stat_result | None:
        """The status of what a path leads to; None where it leads nowhere."""
        return self._status(path, 0)

    def is_file(self, path: str) -> bool:
        found = self.stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_folder(self, path: str) -> bool:
        found = self.stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def readlink(self, path: str) -> str:
        """The target of a symbolic link, as it stands there."""
        parent, name = self._parent(path)
        with _closing(parent):
            return os.readlink(name, dir_fd=parent)

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted; nothing where there is no such folder."""
        try:
            descriptor = self.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with _closing(descriptor):
            return sorted(os.listdir(descriptor), key=os.fsencode)  # noqa: PTH208 -- a descriptor

    def files(self, folder: str) -> Iterator[str]:
        """The paths of all regular files below a folder, sorted; links to folders are not entered."""
        for name in self.names(folder):
            path = f"{folder.rstrip('/')}/{name}"
            found = self.lstat(path)
            if found and stat.S_ISDIR(found.st_mode):
                yield from self.files(path)
            elif found and stat.S_ISREG(found.st_mode):
                yield path

    def read(self, path: str) -> bytes:
        """The bytes of a regular file."""
        # a named pipe that nobody writes to must not hold us
        descriptor = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return file.read()

    def plain_folder(self, path: str) -> Path:
        """A folder as this machine sees it, for mounts; OSError (ELOOP) if a link stands on the way to it."""
        os.close(self.open(path, os.O_PATH | os.O_DIRECTORY, resolve=_NO_LINKS))
        return self.top / path.strip("/")

    # --- changing

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """Make a folder and those above it, those that are missing."""
        os.close(self._folder(path, mode))

    def write(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        """Write a file anew: what had the name is removed, be it a link; folders above are made."""
        with _closing(self._create(path, mode)) as descriptor, open(descriptor, "wb", closefd=False) as file:
            file.write(data.encode() if isinstance(data, str) else data)

    def copy(self, source: Path, path: str, mode: int = 0o644) -> None:
        """Write a file anew with the bytes of `source`, a file of this machine."""
        with (
            source.open("rb") as given,
            _closing(self._create(path, mode)) as descriptor,
            open(descriptor, "wb", closefd=False) as file,
        ):
            shutil.copyfileobj(given, file)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link in place of whatever had the name; folders above are made."""
        parent, name = self._parent(path, create=True)
        with _closing(parent):
            _remove_name(parent, name, path)
            os.symlink(target, name, dir_fd=parent)

    def remove(self, path: str) -> None:
        """Remove a name and all that is below it; nothing where there is none."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            parent, name = self._parent(path)
            with _closing(parent):
                found = os.lstat(name, dir_fd=parent)
                if stat.S_ISDIR(found.st_mode):
                    shutil.rmtree(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)

    def remove_if_empty(self, path: str) -> bool:
        """Remove a folder that holds nothing; whether it is gone."""
        with contextlib.suppress(OSError):
            parent, name = self._parent(path)
            with _closing(parent):
                os.rmdir(name, dir_fd=parent)
                return True
        return False

    def set_access(self, path: str, mode: int, owner: tuple[int, int] | None = None) -> None:
        """Give a file or folder a mode, and an owner and group before that, which takes setuid bits away."""
        with _closing(self.open(path, os.O_RDONLY | os.O_NONBLOCK)) as descriptor:
            if owner is not None:
                os.chown(descriptor, *owner)
            os.chmod(descriptor, mode)

    # --- how

    def open(self, path: str, flags: int, mode: int = 0, *, resolve: int = 0) -> int:
        """A descriptor for what the path leads to inside; the caller's to close."""
        how = _How(flags | os.O_CLOEXEC, mode, _IN_ROOT | _NO_MAGIC_LINKS | resolve)
        name = os.fsencode(path.strip("/") or ".")
        while True:
            descriptor = _libc.syscall(_SYS_OPENAT2, self._descriptor, name, ctypes.byref(how), ctypes.sizeof(how))
            if descriptor >= 0:
                return int(descriptor)
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EINTR):  # EAGAIN: something was renamed on a way with ".."
                raise OSError(number, os.strerror(number), path)

    def _status(self, path: str, flags: int) -> os.stat_result | None:
        try:
            descriptor = self.open(path, os.O_PATH | flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with _closing(descriptor):
            return os.fstat(descriptor)

    def _parent(self, path: str, *, create: bool = False) -> tuple[int, str]:
        """The folder that a name stands in, as a descriptor, and the name."""
        pure = PurePosixPath("/" + path.strip("/"))
        if pure.name in ("", ".."):
            raise OSError(errno.EINVAL, "no name of a file", path)
        folder = str(pure.parent)
        return (self._folder(folder, 0o755) if create else self.open(folder, os.O_PATH | os.O_DIRECTORY)), pure.name

    def _folder(self, path: str, mode: int, links: int = 0) -> int:
        """A folder as a descriptor; it and those above it are made where they are missing."""
        try:
            return self.open(path, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            pass
        above, _, name = path.rstrip("/").rpartition("/")
        parent = self._folder(above, mode, links)
        with _closing(parent):
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:  # a link to what is not there: that is what shall be made
                if links >= _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                target = os.readlink(name, dir_fd=parent)
                return self._folder(target if target.startswith("/") else f"{above}/{target}", mode, links + 1)
            os.chmod(name, mode, dir_fd=parent)  # whatever the umask
            return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)

    def _create(self, path: str, mode: int) -> int:
        """A new file of that name, open to be written."""
        parent, name = self._parent(path, create=True)
        with _closing(parent):
            _remove_name(parent, name, path)
            descriptor = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=parent
            )
        os.chmod(descriptor, mode)
        return descriptor


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_name(parent: int, name: str, path: str) -> None:
    """Make room for a file or link; a folder is not given up for one."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        os.unlink(name, dir_fd=parent)
