"""What a tree holds: every name, with all that Linux keeps of a file and that reaches a machine.

A machine is held against what it was made from by two inventories: one that builders note beside each layer, and one
of what stands on the machine.  What is kept of a file is written down here once, for tar, for builders and for checks:
type, mode, owner and group, time to the second, content, target, which names are one file, holes, and three kinds of
extended attributes: capabilities, access lists, and what users set (user.*).

What is not: labels of security modules (security.selinux ...) belong to the machine that builds, trusted.* to nobody
who builds.  Flags (lsattr) belong to a file system.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

#: Extended attributes that are part of a file; overlayfs keeps its own notes among those of users.
KEPT = re.compile(r"security\.capability|system\.posix_acl_(?:access|default)|user\.(?!overlay\.).*", re.DOTALL)
#: The same for tar.  Its --acls would ask this machine how the users of the other one are called.
TAR = (
    "--xattrs",
    "--xattrs-include=security.capability",
    "--xattrs-include=system.posix_acl_*",
    "--xattrs-include=user.*",
    "--xattrs-exclude=user.overlay.*",
)
#: Holes stay holes; of the formats for that, the one without the number of tar's process in it.
TAR_CREATE = (*TAR, "--sparse", "--sparse-version=0.0")

#: The inventory beside a disk or an image; what it lists is all there is.
LIST = "files.list"

#: Bytes that are read at a time.
_CHUNK = 1 << 18

_TYPES = {
    stat.S_IFREG: "f",
    stat.S_IFDIR: "d",
    stat.S_IFLNK: "l",
    stat.S_IFIFO: "p",
    stat.S_IFSOCK: "s",
    stat.S_IFCHR: "c",
    stat.S_IFBLK: "b",
}


class Entry(NamedTuple):
    """One name.  `type` is a letter as find has it: f(ile), d(irectory), l(ink), p(ipe), s(ocket), c, b (devices).

    `size` in bytes and the digests are a file's, `target` is a link's.  `md5` is for machines that have nothing better,
    `sha256` for whatever takes equal digests for equal content; a machine tells none.  `inode` is the same text for all
    names of one file, and empty where there is no other name, or it is a link.  `mtime` in seconds.  `holes` are the
    bytes of a file that are nowhere.  `attributes` have hexadecimal values.
    """

    type: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    target: str = ""
    md5: str = ""
    inode: str = ""
    holes: int = 0
    attributes: Mapping[str, str] = MappingProxyType({})
    sha256: str = ""

    def __str__(self) -> str:
        detail = {"f": f", {self.size} bytes", "l": f" to {shown(self.target)}"}.get(self.type, "")
        return f"{self.type} {self.mode:04o} {self.uid}:{self.gid}{detail}"


#: Paths as inside the tree, without a slash in front; the top folder is "".
Tree = Mapping[str, Entry]
#: What a layer changes: None where a name is gone.
Changes = Mapping[str, Entry | None]


def read(path: Path, found: os.stat_result, latest: int, inode: str = "") -> Entry:
    """A name on this machine, its content read too; no time is later than `latest`."""
    kind = _TYPES[stat.S_IFMT(found.st_mode)]
    md5, sha256 = _digests(path) if kind == "f" else ("", "")
    return Entry(
        kind,
        stat.S_IMODE(found.st_mode),
        found.st_uid,
        found.st_gid,
        min(found.st_mtime_ns // 10**9, latest),
        found.st_size if kind == "f" else 0,
        os.readlink(path) if kind == "l" else "",
        md5,
        inode,
        holes(path, found) if kind == "f" else 0,
        {name: value.hex() for name, value in attributes(path).items()},
        sha256,
    )


def _digests(path: Path) -> tuple[str, str]:
    """MD5 and SHA-256 of a file, which is read once."""
    md5, sha256 = hashlib.md5(), hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
    return md5.hexdigest(), sha256.hexdigest()


def attributes(path: Path) -> dict[str, bytes]:
    """The extended attributes that are part of the file."""
    return {
        name: os.getxattr(path, name, follow_symlinks=False) for name in attribute_names(path) if KEPT.fullmatch(name)
    }


def attribute_names(path: Path) -> list[str]:
    """All of a file's extended attributes, sorted."""
    try:
        return sorted(os.listxattr(path, follow_symlinks=False))
    except OSError:  # a file system without
        return []


def take_after(folder: Path, model: Path) -> None:
    """Give a folder the owner, group, mode, time and attributes of another one."""
    found = model.stat()
    os.chown(folder, found.st_uid, found.st_gid)
    folder.chmod(stat.S_IMODE(found.st_mode))
    for name, value in attributes(model).items():
        os.setxattr(folder, name, value)
    os.utime(folder, ns=(found.st_atime_ns, found.st_mtime_ns))


def holes(path: Path, found: os.stat_result) -> int:
    """How many bytes of a regular file are nowhere."""
    if found.st_blocks * 512 >= found.st_size:
        return 0
    data = end = 0
    # fewer blocks than bytes: holes, or a file system that compresses
    with path.open("rb") as file:
        while end < found.st_size:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # nothing but a hole from here on
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            data += end - start
    return found.st_size - data


def of(top: Path, latest: int) -> dict[str, Entry]:
    """What stands in a folder of this machine that nobody changes meanwhile; sockets are left out."""
    found = {"": read(top, top.lstat(), latest)}
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            if not stat.S_ISSOCK(status.st_mode):
                inode = f"{status.st_dev}:{status.st_ino}" if has_names(status) else ""
                found[os.path.relpath(path, top)] = read(path, status, latest, inode)
    return found


def has_names(found: os.stat_result) -> bool:
    """Whether a file has other names.  Of symbolic links that makes no difference, and mke2fs makes several of one."""
    return found.st_nlink > 1 and (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode))


# --- for people


def shown(path: str) -> str:
    """A name of any bytes in one line of printable characters, so that different names look different."""
    text = os.fsencode(path.replace("\\", "\\\\")).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
