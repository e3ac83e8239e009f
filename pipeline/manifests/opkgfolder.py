"""An OPKG's folder: its scripts, tests and files, and which of them matter to which side of the cluster.

The folder holds `config.xml`, `scripts/PHASE`, `testing/test_root` and `testing/test_user`, and below `files/server`,
`files/client` and `files/common` what is copied to the root of the head node, of compute nodes, or of both.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from pipeline.manifests import opkgxml
from pipeline.manifests.filters import Codenames
from pipeline.manifests.mistakes import Collector, Mistake, did_you_mean, fail, listing, nearest, quoted, shown
from pipeline.manifests.opkg import CLIENT_PHASES, PHASES, Opkg, Script, Side

TESTS = ("test_root", "test_user")

_TREES = ("server", "client", "common")
_FOLDERS = ("scripts", "files", "testing")

#: What editors leave behind; never part of an OPKG.
_LEFTOVERS = ("~", ".swp", ".orig", ".rej")

_TODAY = {old: phase for phase, names in PHASES.items() for old in names}


def load(folder: Path, codenames: Codenames = MappingProxyType({})) -> Opkg:
    """The OPKG in that folder; all its mistakes in one ManifestError."""
    mistakes = [*_top_level(folder), *_unknown_trees(folder)]
    scripts = tuple(_scripts(folder, mistakes))
    tests = tuple(_tests(folder, mistakes))
    collector = Collector(mistakes)
    opkg = collector.attempt(lambda: opkgxml.read(folder / "config.xml", scripts, tests, codenames))
    collector.finish()
    assert opkg is not None  # finish() raises otherwise
    return opkg


def content(opkg: Opkg, side: Side) -> tuple[tuple[str, str], ...]:
    """What builders read of the OPKG for that side: (path below the folder of all recipes, digest), sorted.

    The head node gets the scripts and tests of all phases, for they run there when the cluster is up; compute nodes
    get only theirs and what these call, so that a change for the head node leaves the compute image alone.
    """
    folder, recipes = opkg.folder, opkg.folder.parent.parent
    found = [*_walk(folder / "files" / side), *_walk(folder / "files" / "common")]
    if side == "server":
        found += [folder / "config.xml", *_walk(folder / "scripts"), *_walk(folder / "testing")]
    else:
        found += _called(folder, [script.file for script in opkg.scripts if script.phase in CLIENT_PHASES])
    return tuple(sorted((path.relative_to(recipes).as_posix(), digest(path)) for path in found))


def digest(path: Path) -> str:
    """SHA-256 over what is kept of a file: what kind it is, whether it is executable, and its bytes or its target."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            return hashlib.sha256(b"link\0" + os.fsencode(os.readlink(path))).hexdigest()
        if not stat.S_ISREG(status.st_mode):
            fail([Mistake(shown(path), 1, "", "expected a file, a folder or a symbolic link")])
        kind = b"program\0" if status.st_mode & stat.S_IXUSR else b"file\0"
        return hashlib.sha256(kind + path.read_bytes()).hexdigest()
    except OSError as error:
        fail([Mistake(shown(path), 1, "", f"cannot be read: {error.strerror}")])


def _walk(folder: Path) -> Iterator[Path]:
    """All files and symbolic links below a folder."""
    for entry in _entries(folder):
        if entry.is_dir() and not entry.is_symlink():
            yield from _walk(entry)
        else:
            yield entry


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder, without what editors leave; a missing folder is an empty one."""
    try:
        entries = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        fail([Mistake(shown(folder), 1, "", f"cannot be read: {error.strerror}")])
    return [entry for entry in entries
            if not entry.name.endswith(_LEFTOVERS) and not entry.name.startswith((".#", "#"))]


def _top_level(folder: Path) -> Iterator[Mistake]:
    """Folders whose name is nearly right: they would silently be left out."""
    for entry in _entries(folder):
        if entry.name not in _FOLDERS and entry.is_dir():
            near = nearest(entry.name, _FOLDERS)
            if near is not None:
                yield Mistake(shown(entry), 1, "", f"this folder is not read; did you mean {quoted(near)}?")


def _unknown_trees(folder: Path) -> Iterator[Mistake]:
    for entry in _entries(folder / "files"):
        if entry.name not in _TREES or not entry.is_dir():
            yield Mistake(shown(entry), 1, "", f"not for any machine; expected a folder, one of {listing(_TREES)}"
                                               f"{did_you_mean(entry.name, _TREES)}")


def _called(folder: Path, names: list[str]) -> list[Path]:
    """Those scripts, and the other files beside them that they mention by name, also through one another."""
    others = {entry.name: entry for entry in _entries(folder / "scripts")}
    called = [others.pop(name) for name in names if name in others]
    for script in called:  # grows while it is read
        text = _bytes(script)
        called += [others.pop(name) for name in list(others) if os.fsencode(name) in text and not _phase(name)]
    return called


def _bytes(script: Path) -> bytes:
    try:
        return script.read_bytes()
    except OSError:
        return b""  # told where scripts are checked


def _phase(name: str) -> str:
    """The phase that a file name stands for, in today's name, or ""."""
    phase = _TODAY.get(name, name)
    return phase if phase in PHASES else ""


def _scripts(folder: Path, mistakes: list[Mistake]) -> Iterator[Script]:
    """The phases' scripts; other files are what these call, and a file that none of them mentions is a mistake."""
    entries = _entries(folder / "scripts")
    called = _called(folder, [entry.name for entry in entries if _phase(entry.name)])
    seen: dict[str, str] = {}
    for entry in entries:
        phase = _phase(entry.name)
        if not phase and entry in called:
            continue
        if not phase:
            hint = did_you_mean(entry.name, [*PHASES, *_TODAY]) or f"; expected one of {listing(PHASES)}"
            mistakes.append(Mistake(shown(entry), 1, "", f"no phase has that name and no script calls it{hint}"))
            continue
        if phase in seen and phase not in (entry.name, seen[phase]):
            continue  # two old names, of which the first was run
        if phase in seen:
            mistakes.append(Mistake(shown(entry), 1, "", f"the same phase as {quoted(seen[phase])}; expected one"))
        seen[phase] = entry.name
        mistakes += _not_executable(entry)
        yield Script(phase, entry.name)


def _tests(folder: Path, mistakes: list[Mistake]) -> Iterator[str]:
    """The tests; other files beside them are their data, but for a name that is nearly a test's."""
    for entry in _entries(folder / "testing"):
        if entry.name in TESTS:
            mistakes += _not_executable(entry)
            yield entry.name
        elif entry.is_file() and os.access(entry, os.X_OK) and nearest(entry.stem, TESTS):
            mistakes.append(Mistake(shown(entry), 1, "", f"not run as a test{did_you_mean(entry.stem, TESTS)}"))


def _not_executable(script: Path) -> Iterator[Mistake]:
    if not script.is_file():
        yield Mistake(shown(script), 1, "", "expected a file")
    elif not os.access(script, os.X_OK):
        yield Mistake(shown(script), 1, "", f"not executable; expected: chmod +x {shown(script)}")
