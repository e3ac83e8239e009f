"""What stands in an OPKG's folder as people keep it: files, folders and links, and what of it gets lost.

A link in a root to be is one of that root.  Any other stands for what it leads to, so that OPKGs may share scripts and
lie in repositories of their own.  But an OPKG is somebody else's, and must not bring files of this machine into an
image: links lead to what stands in the recipes folder, or to where somebody has linked that folder to, and no further.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline import kept
from pipeline.kept import Kind
from pipeline.layers import volatile
from pipeline.mistakes import Mistake, fail, listing, printable, shown

#: What belongs to version control, and not to the OPKG.
_HISTORY = (".git", ".gitattributes", ".gitignore", ".hg", ".hgignore", ".svn", ".bzr", "CVS")
#: Of older generations: packages for the distributions of their time, which may be hundreds of MB.
_PACKAGES = ("RPMS", "SRPMS", "DEBS", "distro")

_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
#: What Linux keeps of a file besides its mode and gets lost in the copy, and what a script would do instead.
_ATTRIBUTES = {
    "security.capability": "setcap",
    "system.posix_acl_access": "setfacl",
    "system.posix_acl_default": "setfacl",
}


#: Names that one OPKG may have; links that lead to links can make any number of a few files.
_MOST = 200_000


class Tree:
    """The folder of one OPKG; `mistakes` and `warnings` are what was found wrong with what has been looked at."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.mistakes: list[Mistake] = []
        self.warnings: list[Mistake] = []
        self._seen = 0

    @functools.cached_property
    def _grounds(self) -> list[str]:
        """Where links may lead."""
        recipes = self.top.parent.parent
        return [os.path.realpath(path) for path in (recipes, *recipes.glob("*"), *recipes.glob("opkgs/*"))]

    def entries(self, folder: Path) -> list[Path]:
        """What stands in a folder, by name; a missing folder is an empty one."""
        kind = self.kind(folder)
        if kind == "file":
            self.wrong(folder, "a file; expected a folder")
        if kind != "folder":
            return []
        try:
            found = sorted(folder.iterdir())
        except OSError as error:
            self.wrong(folder, f"cannot be read: {error.strerror}")
            return []
        return [entry for entry in found if not self._is_left_out(entry)]

    def below(self, folder: Path, above: tuple[tuple[int, int], ...] = ()) -> Iterator[Path]:
        """All that is kept of what a folder holds: files, links of a root to be, and of folders those that are empty
        or whose mode was meant; each before what it holds."""
        if self.kind(folder) != "folder":
            return
        try:
            status = folder.stat()
        except OSError as error:
            self.wrong(folder, f"cannot be read: {error.strerror}")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            self.wrong(folder, "a link to a folder that it stands in itself")
            return
        for entry in self.entries(folder):
            self._seen += 1
            if self._seen > _MOST:
                self.wrong(self.top, f"more than {_MOST} files; do links in it lead to folders with more links?")
                fail(self.mistakes)
            kind = self.kind(entry)
            inside = list(self.below(entry, (*above, here))) if kind == "folder" else []
            if kind == "file" or kind == "link" or (kind == "folder" and (not inside or self.was_meant(entry))):
                self._look(entry, kind)
                yield entry
            yield from inside

    def kind(self, entry: Path) -> Kind | None:
        """What an entry is kept as; None where it cannot be kept, or is not there."""
        try:
            status = entry.lstat()
            if stat.S_ISLNK(status.st_mode):
                if kept.in_root(self._named(entry)[1]):
                    return "link"
                if not self._leads_inside(entry):
                    return None
                status = entry.stat()
        except OSError as error:
            if not entry.is_symlink():
                if error.errno != errno.ENOENT:
                    self.wrong(entry, f"cannot be read: {error.strerror}")
            elif error.errno == errno.ELOOP:
                self.wrong(entry, "a link that leads in a circle")
            else:
                self.wrong(entry, f"a link to {printable(os.readlink(entry))}: {error.strerror}")
            return None
        if stat.S_ISDIR(status.st_mode):
            return "folder"
        if stat.S_ISREG(status.st_mode):
            return "file"
        self.wrong(
            entry,
            f"{_SPECIAL.get(stat.S_IFMT(status.st_mode), 'a special file')}; expected a file, a folder "
            "or a symbolic link",
        )
        return None

    def was_meant(self, folder: Path) -> bool:
        """Whether the mode of a folder says something."""
        return kept.of(*self._named(folder)).mode != 0o755

    def wrong(self, entry: Path, text: str) -> None:
        self.mistakes.append(Mistake(shown(entry), 1, "", text))

    def warn(self, entry: Path, text: str) -> None:
        self.warnings.append(Mistake(shown(entry), 1, "", text))

    def _leads_inside(self, entry: Path) -> bool:
        """Whether a link leads where links may lead; OSError where it leads nowhere."""
        real = os.path.realpath(entry, strict=True)
        inside = any(real == ground or real.startswith(f"{ground}/") for ground in self._grounds)
        if not inside:
            self.wrong(
                entry,
                f"a link out of the recipes, to {printable(real)}; expected a copy of that, or a link in "
                f"{shown(self.top.parent.parent)} to the folder that it is in",
            )
        return inside

    def _look(self, entry: Path, kind: Kind) -> None:
        """Tell what will not arrive of an entry."""
        name = self._named(entry)[1]
        if kept.in_root(name):
            has_content = kind == "file" and entry.stat().st_size > 0
            why = volatile.why_not("/".join(Path(name).parts[4:]), has_content=has_content)
            if why:
                self.wrong(entry, f"no root keeps it: {why}")
        try:
            attributes = os.listxattr(entry, follow_symlinks=False)
        except OSError:
            return
        for attribute in attributes:
            # what browsers and desktops note about a download is in user.xdg
            own = attribute.startswith("user.") and not attribute.startswith("user.xdg.")
            program = "setfattr" if own else _ATTRIBUTES.get(attribute)
            if program:
                self.warn(entry, f"its {attribute} is not kept; expected a script that gives it: {program}")

    def _is_left_out(self, entry: Path) -> bool:
        name, place = entry.name, entry.relative_to(self.top).parts
        if name in _HISTORY and not kept.in_root(self._named(entry)[1]):
            return True
        if len(place) == 1 and name in _PACKAGES:
            self.warn(
                entry,
                f"left out: packages come from the distribution, or from a cluster's packages; of folders "
                f"called {listing(_PACKAGES)} nothing is kept",
            )
            return True
        if (
            name.startswith(".#")
            or (name.startswith("#") and name.endswith("#"))
            or (name.startswith(".") and name.endswith((".swp", ".swo", ".swx")))
        ):
            self.warn(entry, "left out: an editor has it while it is at work")
            return True
        if place[0] in ("scripts", "testing") and name.endswith(("~", ".orig", ".rej")):
            self.warn(entry, "left out: what an editor or patch has left behind")
            return True
        return False

    def _named(self, entry: Path) -> tuple[Path, str]:
        """The folder of all recipes, and the path below it."""
        recipes = self.top.parent.parent
        return recipes, entry.relative_to(recipes).as_posix()
