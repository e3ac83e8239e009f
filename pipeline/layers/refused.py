"""What Linux keeps of a file and no image could hold: refused by the names of the file and of who brought it.

Else it would be lost on the way to a machine, without a word.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import sys
from pathlib import Path

from pipeline import inventory, sandbox
from pipeline.errors import BuildError
from pipeline.layers import volatile
from pipeline.rootfs import RootFs

#: What chattr can say of a file on any file system; a whole file system may have a flag for all that is on it.
_FLAGS = {0x08: "S", 0x10: "i", 0x20: "a", 0x40: "d", 0x80: "A", 0x10000: "D"}
#: FS_IOC_GETFLAGS.
_GET_FLAGS = 0x80006601 | struct.calcsize("l") << 16
#: Bytes of a folder's path; the kernel takes 4096 for a whole one, and builders and installers put theirs in front.
_LONGEST = 3072
#: Bytes that ext4 has for the extended attributes of one file, in a block of their own.
_ATTRIBUTES = 4060
_LISTS = "var/lib/dpkg/info"


class _Refused(BuildError):
    """`message` goes on after the path."""

    path = ""


def notes() -> str:
    """What the names of overlayfs' own notes begin with."""
    return "user.overlay." if sandbox.in_user_namespace() else "trusted.overlay."


#: What has been looked at: path, inode, and time of the last change of any kind.
Known = set[tuple[str, int, int]]


def require_kept(upper: Path, who: str = "", known: Known | None = None) -> None:
    """BuildError for the first name in an upper directory that a layer cannot carry; `who` brought it.

    What is `known` is passed over, and what is looked at is known then.
    """
    try:
        _look(upper, "", _flags(upper, upper.lstat()), set() if known is None else known)
    except _Refused as error:
        who = who or _package(upper, error.path)
        raise BuildError(
            f"{who and f'{who}: '}/{inventory.shown(error.path)}{error.message}", hint=error.hint
        ) from None


def _package(upper: Path, path: str) -> str:
    """Which package has brought a path, by the lists in the same directory."""
    with RootFs(upper) as inside:
        for name in inside.names(_LISTS):
            if name.endswith(".list") and os.fsencode(f"/{path}") in inside.read(f"{_LISTS}/{name}").splitlines():
                return f"package {name.removesuffix('.list')}"
    return ""


def _look(folder: Path, below: str, usual: int, known: Known) -> None:
    """At all in a folder; `usual` are flags that all files have here."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.name)):
            path = f"{below}{entry.name}"
            found = entry.stat(follow_symlinks=False)
            removed = stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
            if removed or volatile.left_out(path, entry):
                continue
            signed = (path, found.st_ino, found.st_ctime_ns)
            if signed not in known:
                _require(path, folder / entry.name, found, usual)
                known.add(signed)
            if stat.S_ISDIR(found.st_mode):
                _look(folder / entry.name, f"{path}/", usual, known)


def _require(path: str, place: Path, found: os.stat_result, usual: int) -> None:
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):  # which an ordinary user could not even make
        raise _refused(
            path, " is a device: no image can hold one", "let the machine make it when it starts: tmpfiles.d or udev"
        )
    if stat.S_ISDIR(found.st_mode) and len(os.fsencode(path)) > _LONGEST:
        raise _refused(
            path[:60],
            f"... is a folder so deep that its path has more than {_LONGEST} bytes",
            "tools that copy files stop at 4096",
        )
    names = inventory.attribute_names(place)
    own = _flags(place, found) & ~usual
    flags = "".join(sign for flag, sign in _FLAGS.items() if own & flag)
    if f"{notes()}protattr" in names:  # where overlayfs notes i and a
        flags += os.getxattr(place, f"{notes()}protattr").decode()
    if flags:
        raise _refused(
            path, f" has the flag {flags} of chattr: no image can hold that", "let the machine set it when it starts"
        )
    _require_attributes(path, place, names)


def _require_attributes(path: str, place: Path, names: list[str]) -> None:
    size, own = 0, notes()
    for name in names:
        kind, _, rest = name.partition(".")
        if inventory.KEPT.fullmatch(name):
            value = os.getxattr(place, name, follow_symlinks=False)
            size += 16 + sum(-(-length // 4) * 4 for length in (len(os.fsencode(rest)), len(value)))
        elif kind in ("user", "trusted") and (not name.startswith(own) or name.startswith(f"{own}overlay.")):
            raise _refused(
                path,
                f" has the attribute {inventory.shown(name)}: no image holds it",
                "names of users' attributes begin with user., and not with user.overlay.",
            )
    if size > _ATTRIBUTES:
        raise _refused(path, f" has {size} bytes of extended attributes", f"a file of ext4 can have {_ATTRIBUTES}")


def _refused(path: str, message: str, hint: str) -> _Refused:
    error = _Refused(message, hint=hint)
    error.path = path
    return error


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
