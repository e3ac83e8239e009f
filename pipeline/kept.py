"""What is kept of a file of an OPKG on its way into a root: its kind, its mode, and its bytes or where it links to.

The plan writes that down as one line for each path, which keys cover, and builders do what stands there.  So what an
umask, an archive or a mount makes of a checkout's modes counts here or nowhere.

A mode counts where a person meant it.  What is tighter, or has more bits, than the umask has left of `config.xml`, was
meant; else a program is 0755, any other file 0644 and a folder 0755, as git keeps them.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

from pipeline.mistakes import Mistake, fail, shown

Kind = Literal["file", "folder", "link"]
_KINDS: tuple[Kind, ...] = get_args(Kind)

#: Rights that somebody has taken away where they are missing, and one that somebody has given where it is there.
_USUAL, _UNUSUAL = 0o644, 0o002


@dataclass(frozen=True)
class Kept:
    """`content` is the SHA-256 of a file, the target of a link, "" of a folder."""

    kind: Kind
    mode: int
    content: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.mode:04o} {self.content}"

    @classmethod
    def parse(cls, text: str) -> Self:
        word, mode, content = text.split(" ", 2)
        return cls(next(kind for kind in _KINDS if kind == word), int(mode, 8), content)


def of(recipes: Path, name: str) -> Kept:
    """What is kept of a path below the folder of all recipes, or of a package under test; ManifestError if it cannot
    be read.

    In a root to be, a link is a link.  Elsewhere it stands for what it leads to.
    """
    path = recipes / name
    try:
        if name.startswith("/"):
            return Kept("file", 0o644, _digest(path))
        status = path.lstat() if in_root(name) else path.stat()
        if stat.S_ISLNK(status.st_mode):
            return Kept("link", 0o777, os.readlink(path))
        top = recipes.joinpath(*Path(name).parts[:2])
        usual = _usual(top / "config.xml")
        if stat.S_ISDIR(status.st_mode):
            return Kept("folder", 0o755 if _is_run(name) else folder_mode(status.st_mode, usual, top.stat().st_mode))
        if not stat.S_ISREG(status.st_mode):  # it may be a named pipe by now, which nobody writes to
            fail([Mistake(shown(path), 1, "", "expected a file, a folder or a symbolic link")])
        return Kept("file", 0o755 if _is_run(name) else file_mode(status.st_mode, usual), _digest(path))
    except OSError as error:
        fail([Mistake(shown(path), 1, "", f"cannot be read: {error.strerror}")])


def in_root(name: str) -> bool:
    """Whether a path below the folder of all recipes (opkgs/NAME/files/SIDE/...) is one of a root to be."""
    parts = Path(name).parts
    return parts[2:3] == ("files",) and len(parts) > 4


def file_mode(found: int, usual: int) -> int:
    """The mode of a copy of a file; `usual` is that of a file that nobody has changed the mode of."""
    if found & 0o7000 or _was_meant(found, usual):
        return stat.S_IMODE(found)
    return 0o755 if found & 0o100 else 0o644


def folder_mode(found: int, usual: int, top: int) -> int:
    """The mode of a folder; `top` is that of the folder of all: set-group-id is handed down from there."""
    if found & stat.S_ISVTX or found & stat.S_ISGID & ~top or _was_meant(found, usual):
        return stat.S_IMODE(found)
    return 0o755


def _was_meant(found: int, usual: int) -> bool:
    return bool(_USUAL & usual & ~found or _UNUSUAL & found & ~usual)


def _usual(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:  # which is told where it is read
        return 0o644


def _is_run(name: str) -> bool:
    """Scripts and tests are run, whatever mode a checkout or an archive has left them with."""
    return Path(name).parts[2:3] in (("scripts",), ("testing",))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
