"""An OPKG's folder: its scripts, tests and files, and which of them matter to which side of the cluster.

The folder holds `config.xml`, `scripts/PHASE`, `testing/test_root` and `testing/test_user`, perhaps `secrets`, and
below `files/server`, `files/client` and `files/common` what is copied to the root of the head node, of compute nodes,
or of both; and below `files/common-systemd` and its like what only systems with that init have.  Whatever else it holds
is there for its scripts, beside which it lies on the head node.
"""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from pipeline import kept
from pipeline.description import Secret
from pipeline.guests.guest import Init
from pipeline.mistakes import Collector, Mistake, did_you_mean, fail, listing, nearest, quoted, shown
from pipeline.opkgs import config, names, phases, secrets
from pipeline.opkgs.filters import Codenames
from pipeline.opkgs.model import Opkg, Script
from pipeline.opkgs.names import Asks
from pipeline.opkgs.phases import TESTS, Side, When
from pipeline.opkgs.tree import Tree

_SIDES = ("server", "client", "common")
_TREES = (*_SIDES, *(f"{side}-{init}" for side in _SIDES for init in typing.get_args(Init)))
_FOLDERS = ("scripts", "files", "testing")

#: When scripts run while a root is built.
_BUILT: tuple[When, ...] = ("prepared", "furnished")

#: How like a phase or folder a name must be to have been meant for it; helpers have names that are a little like, too.
_NEARLY = 0.75

#: Bytes in which a script says how it is to be started, and those in which it is looked for names of others.
_BEGINNING, _SEARCHED = 256, 1 << 20
#: What editors of other systems put before a text: marks of UTF-8 and UTF-16.
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def load(folder: Path, codenames: Codenames = MappingProxyType({})) -> Opkg:
    """The OPKG in that folder; all its mistakes in one ManifestError."""
    tree = Tree(folder)
    tree.entries(folder)
    if tree.mistakes:  # there is no such folder
        fail(tree.mistakes)
    _look_at_top(tree)
    scripts = tuple(_scripts(tree))
    tests = tuple(_tests(tree))
    for _ in _everything(tree):
        pass  # what is wrong with any of it is noted
    collector = Collector(tree.mistakes)
    opkg = collector.attempt(lambda: config.read(folder / "config.xml", scripts, tests, codenames))
    declared = collector.attempt(lambda: _secrets(tree))
    collector.finish()
    assert opkg is not None and declared is not None  # finish() raises otherwise
    return dataclasses.replace(opkg, secrets=declared, warnings=(*opkg.warnings, *sorted(set(tree.warnings))))


def content(opkg: Opkg, side: Side, init: Init) -> tuple[tuple[str, str], ...]:
    """What builders read of the OPKG for that side of a system with that init: (path below the folder of all recipes,
    what is kept of it), sorted.

    The head node gets the scripts and tests of all phases, for they run there when the cluster is up, and all that lies
    beside them; compute nodes get only what their own scripts call and mention, so that a change for the head node
    leaves the compute image alone.
    """
    tree, recipes = Tree(opkg.folder), opkg.folder.parent.parent
    found = [path for name in (side, "common") for place in (name, f"{name}-{init}") for path in _files(tree, place)]
    if side == "server":
        found += [path for entry in _beside(tree) for path in _all_of(tree, entry)]
    else:
        found += _called(tree, [script.file for script in opkg.scripts if _side(script.file) == "client"])
    if tree.mistakes:
        fail(tree.mistakes)  # made since it was loaded
    paths = sorted({path.relative_to(recipes).as_posix() for path in found})
    return tuple((path, str(kept.of(recipes, path))) for path in paths)


def asks(opkg: Opkg, side: Side) -> Asks:
    """What the scripts that run while that side's root is built ask for of the cluster's names, as far as their texts
    and those of what they call tell."""
    tree = Tree(opkg.folder)
    built = {phase.name for when in _BUILT for phase in phases.that_run(when, side)}
    called = _called(tree, [script.file for script in opkg.scripts if script.phase in built])
    return names.most(names.asks(_text(path)) for path in called)


def _everything(tree: Tree) -> Iterator[Path]:
    for entry in _beside(tree):
        yield from _all_of(tree, entry)
    for place in _TREES:
        yield from _files(tree, place)


def _files(tree: Tree, place: str) -> Iterator[Path]:
    """What is for the roots that one of `_TREES` stands for."""
    if tree.kind(tree.top / "files") == "folder":
        yield from tree.below(tree.top / "files" / place)


def _beside(tree: Tree) -> list[Path]:
    """What lies in the OPKG's folder, but for the trees of files."""
    return [entry for entry in tree.entries(tree.top) if entry.name != "files"]


def _all_of(tree: Tree, entry: Path) -> list[Path]:
    """A file, or a folder with its content."""
    kind = tree.kind(entry)
    inside = list(tree.below(entry)) if kind == "folder" else []
    itself = kind is not None and (not inside or tree.was_meant(entry))
    return [*([entry] if itself else []), *inside]


def _secrets(tree: Tree) -> tuple[Secret, ...]:
    """What it declares; a file that it brings to the same place would be one for everybody to read."""
    if tree.kind(tree.top / secrets.FILE) is None:
        return ()
    found = secrets.read(tree.top)
    brought = [tree.top / "files" / place / secret.path[1:] for secret in found for place in _TREES]
    mistakes = [
        Mistake(
            shown(path),
            1,
            "",
            f"a secret is declared there, in {shown(tree.top / secrets.FILE)}; expected no file of that name",
        )
        for path in brought
        if os.path.lexists(path)
    ]
    if mistakes:
        fail(mistakes)
    return found


def _look_at_top(tree: Tree) -> None:
    """Folders whose name is nearly right: what they hold would not be used for what it is meant for."""
    for entry in tree.entries(tree.top):
        if entry.name not in _FOLDERS and entry.is_dir():
            near = nearest(entry.name, _FOLDERS, _NEARLY)
            if near is not None:
                tree.wrong(entry, f"nothing in it is run or copied to a root; did you mean {quoted(near)}?")
    for entry in tree.entries(tree.top / "files"):
        if entry.name not in _TREES or not entry.is_dir():
            tree.wrong(
                entry,
                f"not for any machine; expected a folder, one of {listing(_SIDES)}, or like common-systemd"
                f"{did_you_mean(entry.name, _TREES)}",
            )


def _called(tree: Tree, first: list[str]) -> list[Path]:
    """Those scripts, and all else in the OPKG that they mention by name, also through one another.

    A link mentions what it leads to.  Of a folder that is mentioned all counts, and who mentions `scripts` may call any
    that is no phase's.
    """
    scripts = tree.entries(tree.top / "scripts")
    others = [*scripts, *(entry for entry in _beside(tree) if entry.name != "scripts")]
    called: list[Path] = []

    def add(mentioned: list[Path]) -> None:
        for entry in mentioned:
            others.remove(entry)
            called.extend(_all_of(tree, entry))

    add([entry for entry in scripts if entry.name in first])
    for path in called:  # grows while it is read
        text = _text(path)
        add(
            [
                entry
                for entry in others
                if os.fsencode(entry.name) in text
                or (b"scripts" in text and entry in scripts and phases.of(entry.name) is None)
            ]
        )
    return called


def _text(path: Path) -> bytes:
    try:
        target = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
        with path.open("rb") as file:
            return target + b"\n" + file.read(_SEARCHED)
    except OSError:
        return b""  # a folder; or it is told where it is looked at


def _side(script: str) -> Side | None:
    phase = phases.of(script)
    return phase.side if phase else None


def _scripts(tree: Tree) -> Iterator[Script]:
    """The phases' scripts; other files are what these call."""
    entries = tree.entries(tree.top / "scripts")
    called = _called(tree, [entry.name for entry in entries if phases.of(entry.name)])
    seen: dict[str, str] = {}
    for entry in entries:
        phase = phases.of(entry.name)
        if phase is None:
            if entry not in called and tree.kind(entry) == "file":
                _look_at_helper(tree, entry)
            continue
        if phase.name in seen and phase.name not in (entry.name, seen[phase.name]):
            continue  # two old names, of which the first was run
        if phase.name in seen:
            tree.wrong(entry, f"the same phase as {quoted(seen[phase.name])}; expected one")
        seen[phase.name] = entry.name
        _look_at_start(tree, entry)
        yield Script(phase.name, entry.name)


def _look_at_helper(tree: Tree, entry: Path) -> None:
    """A file in scripts/ that is no phase and that no script mentions: is it meant to be one?"""
    near = nearest(entry.name, phases.NAMES, _NEARLY)
    if near is not None:
        tree.wrong(entry, f"no phase has that name and no script calls it; did you mean {quoted(near)}?")
    elif entry.stat().st_mode & 0o111:
        tree.warn(entry, "not run: no phase has that name and no script calls it")


def _tests(tree: Tree) -> Iterator[str]:
    """The tests; other files beside them are their data, but for a name that is nearly a test's."""
    for entry in tree.entries(tree.top / "testing"):
        if entry.name in TESTS:
            _look_at_start(tree, entry)
            yield entry.name
        elif tree.kind(entry) == "file" and entry.stat().st_mode & 0o111 and nearest(entry.stem, TESTS):
            tree.wrong(entry, f"not run as a test{did_you_mean(entry.stem, TESTS)}")


def _look_at_start(tree: Tree, script: Path) -> None:
    """Tell why a script cannot be started, as far as it can be seen without the root that it shall run in."""
    kind = tree.kind(script)
    if kind == "folder":
        tree.wrong(script, "a folder; expected a script")
    elif kind == "file":
        if not script.stat().st_mode & 0o111:
            tree.wrong(script, f"not executable; expected: chmod +x {shown(script)}")
        try:
            with script.open("rb") as file:
                why = _not_startable(file.read(_BEGINNING))
        except OSError as error:
            tree.wrong(script, f"cannot be read: {error.strerror}")
        else:
            if why:
                tree.wrong(script, f"it cannot be started: {why}")


def _not_startable(beginning: bytes) -> str:
    """Why no kernel starts a file that begins so, or ""."""
    first = beginning.partition(b"\n")[0]
    if beginning.startswith(_MARKS):
        return "a byte order mark stands before its first line; expected a text without, saved as plain UTF-8"
    if beginning.startswith(b"\x7fELF"):
        return ""
    if not first.startswith(b"#!"):
        return 'its first line names no interpreter; expected one like "#!/bin/sh"'
    if first.endswith(b"\r"):
        return "its first line ends in CR LF as on Windows; expected LF alone: sed -i 's/\\r$//'"
    if not first[2:].strip().startswith(b"/"):
        return 'its first line names no interpreter by its whole path; expected one like "#!/bin/sh"'
    return ""
