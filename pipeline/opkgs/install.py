"""The top layer of a machine: the files and scripts of its cluster's OPKGs, in manifest order.

An OPKG folder is `config.xml`, `scripts/PHASE`, `files/{common,server,client}[-INIT]/PATH-BELOW-/`, `testing/`, and
what its scripts need besides.  The head node keeps all of it below /usr/lib/oscar/packages, as OSCAR does, because
later phases and the tests run there; a compute node has it only while its script runs.  As in OSCAR, all OPKGs get
through the first phases before one is installed.

Scripts that name their phase as OSCAR 4 and 5 did are installed under the present name, so nobody else has to know.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.confine import NOT_STARTED
from pipeline.errors import BuildError, CommandError
from pipeline.kept import Kept
from pipeline.layers import refused, stacking
from pipeline.opkgs.names import FOLDER
from pipeline.opkgs.phases import PACKAGES, PHASES, TESTS, Phase, When, environment, has_script, side_of, that_run
from pipeline.opkgs.places import in_root
from pipeline.rootfs import IN_THE_WAY, RootFs
from pipeline.sandbox import PATH, Bind, chroot_run
from pipeline.step import Job

#: When scripts run on a head node that is whole.
_LATER: tuple[When, ...] = ("imaged", "head up", "all up")

#: Where the SIS image lies for scripts that are given it.
IMAGE = "/run/oscar/image"

#: A script that takes longer waits for something it will not get in a sandbox.  Seconds.
_DEADLINE = 300.0


def build(job: Job) -> None:
    """Builder: one layer with everything that the OPKGs bring to machines of this membership."""
    membership: str = job.params["membership"]
    opkgs: list[str] = job.params["opkgs"]
    files = {path: Kept.parse(kept) for path, kept in job.step.files}
    known: refused.Known = set()
    with stacking.changed(job) as root, RootFs(root) as inside, _told(inside, job.params.get("names", {})):
        if membership == "head":
            for name in opkgs:
                bring(inside, name, job.recipes, files)
            for phase, name in itertools.product(that_run("prepared", "server"), opkgs):
                _run_if_there(inside, name, phase, files, membership, job.log)
        for done, name in enumerate(opkgs):
            job.progress(done, len(opkgs), "OPKGs")
            furnish(inside, name, job.recipes, files, membership, job.log)
            stacking.require_kept(job, f"OPKG {name}", known)
        if membership == "head":
            for name in opkgs:
                for script in _run_later(name, files):
                    _require_startable(inside, name, script, membership)
        elif job.params.get("imaged"):
            _finish_image(job, root, known)


def _finish_image(job: Job, image: Path, known: refused.Known) -> None:
    """Run what OPKGs do to the whole image from the head node, whose root is only read."""
    head = [item for item in job.inputs if item.role == "head"]
    membership: str = job.params["membership"]
    binds = [Bind(image, IMAGE, writable=True)]
    with stacking.stacked(job, head) as root:
        for phase, name in itertools.product(that_run("imaged", "server"), job.params["imaged"]):
            _run(root, name, phase.name, membership, job.log, IMAGE, binds=binds)
            stacking.require_kept(job, f"OPKG {name}", known)


@contextlib.contextmanager
def _told(root: RootFs, names: Mapping[str, str]) -> Iterator[None]:
    """Within the block scripts find there what they ask for of the cluster's names; no layer keeps it."""
    for path, text in names.items():
        root.write(path, text)
    yield
    for path, text in names.items():
        if root.is_file(path) and root.read(path) == text.encode():  # else somebody has made it their own
            root.remove(path)
    if names:
        root.remove_if_empty(FOLDER)


def bring(root: RootFs, name: str, recipes: Path, files: Mapping[str, Kept]) -> None:
    """Bring an OPKG's own folder to `root`.  `files` are paths below `recipes`."""
    for path, kept in _own(name, files).items():
        _bring(recipes / "opkgs" / name / path, kept, root, f"{PACKAGES}/{name}/{path}")
    _name_phases(root, f"{PACKAGES}/{name}/scripts")


def furnish(root: RootFs, name: str, recipes: Path, files: Mapping[str, Kept], membership: str, log: Path) -> None:
    """Bring an OPKG's files for these machines to `root`, then run its script; but on the head node its folder goes
    again."""
    if membership != "head":
        bring(root, name, recipes, files)
    side = side_of(membership)
    own = _own(name, files)
    for target, path in in_root(own, side).items():
        _bring(recipes / "opkgs" / name / path, own[path], root, target)
    try:
        for phase in that_run("furnished", side):
            _run_if_there(root, name, phase, files, membership, log)
    finally:
        if membership != "head":
            _remove(root, f"{PACKAGES}/{name}")


def _own(name: str, files: Mapping[str, Kept]) -> dict[str, Kept]:
    """An OPKG's own files, by their path in its folder."""
    folder = f"opkgs/{name}/"
    return {path.removeprefix(folder): kept for path, kept in files.items() if path.startswith(folder)}


def _run_if_there(root: RootFs, name: str, phase: Phase, files: Mapping[str, Kept], membership: str, log: Path) -> None:
    if has_script(phase.name, name, files):
        _require_startable(root, name, f"scripts/{phase.name}", membership)
        _run(root.top, name, phase.name, membership, log)


def _run(
    root: Path, name: str, phase: str, membership: str, log: Path, *arguments: str, binds: Sequence[Bind] = ()
) -> None:
    home = f"{PACKAGES}/{name}"
    try:
        chroot_run(
            root,
            [f"{home}/scripts/{phase}", *arguments],
            env=environment(name, membership),
            cwd=home,
            log=log,
            timeout=_DEADLINE,
            binds=binds,
        )
    except CommandError as error:
        hint = f"correct recipes/opkgs/{name}/scripts/{phase}"
        if NOT_STARTED not in error.tail:
            hint += "; `set -x` in it shows its steps"
        if binds and "Read-only file system" in error.tail:
            hint += f"; it may change the image ({IMAGE}, its first argument), and nothing of the head node"
        raise BuildError(
            f"OPKG {name}: script {phase} failed: {error.message}", hint=hint, log=log, tail=error.tail
        ) from None


def _name_phases(root: RootFs, folder: str) -> None:
    for phase in PHASES:
        there = [name for name in (phase.name, *phase.older) if root.is_file(f"{folder}/{name}")]
        if there and there[0] != phase.name:
            root.write(f"{folder}/{phase.name}", root.read(f"{folder}/{there[0]}"), 0o755)


def _bring(source: Path, kept: Kept, root: RootFs, path: str) -> None:
    """Owner root, and what the plan says is kept; nothing else of the source's counts."""
    try:
        if kept.kind == "link":
            root.link(path, kept.content)
        elif kept.kind == "folder":
            _make_folder(root, path, kept.mode)
        else:
            root.copy(source, path, kept.mode & 0o777)
            if kept.mode & 0o7000:  # which are lost when a file is written to
                root.set_access(path, kept.mode)
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            raise
        raise BuildError(
            f"{source}: it cannot be put at {path}: {IN_THE_WAY[error.errno]}",
            hint="give it another name, or leave it out: packages or other OPKGs have made what is there",
        ) from None


def _make_folder(root: RootFs, path: str, mode: int) -> None:
    """One that is there already keeps its mode: it is others' too."""
    found = root.stat(path)
    if found is None:
        root.make_folder(path.rpartition("/")[0] or "/")
        root.make_folder(path, mode)
    elif not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def _run_later(name: str, files: Mapping[str, Kept]) -> list[str]:
    """The scripts and tests of an OPKG that run on the head node's root when it is whole, or up."""
    later = [phase for when in _LATER for phase in that_run(when, "server")]
    scripts = [f"scripts/{phase.name}" for phase in later if has_script(phase.name, name, files)]
    return [*scripts, *(f"testing/{test}" for test in TESTS if f"opkgs/{name}/testing/{test}" in files)]


def _require_startable(root: RootFs, name: str, script: str, membership: str) -> None:
    """Raise BuildError unless a script that shall run is there, and so is its interpreter."""
    where = "the head node" if membership == "head" else f"{membership} nodes"
    path = f"{PACKAGES}/{name}/{script}"
    if not root.is_file(path):
        raise BuildError(
            f"OPKG {name}: {script} should run on {where} and is not there",
            hint="a script or package that ran before has taken it away or put a link in its place",
        )
    wanted, places = _interpreter(root.read(path))
    if wanted and not any(root.is_file(place) for place in places):
        raise BuildError(
            f"OPKG {name}: {script} cannot be started on {where}: its interpreter {wanted} is not there",
            hint=f"name the package that has it in recipes/opkgs/{name}/config.xml, in "
            + ("serverDeps" if membership == "head" else "clientDeps"),
        )


def _interpreter(script: bytes) -> tuple[str, list[str]]:
    """The program that a script is started with, and where it may lie; "" where that cannot be told."""
    first = script.partition(b"\n")[0]
    words = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else []
    if len(words) > 1 and words[0].endswith("/env") and not words[1].startswith("-") and "=" not in words[1]:
        return words[1], [f"{folder}/{words[1]}" for folder in PATH.split(":")]
    return (words[0], words[:1]) if words else ("", [])


def _remove(root: RootFs, home: str) -> None:
    """Take an OPKG's folder away again, and the folders above it that held nothing else."""
    root.remove(home)
    for folder in (PACKAGES, PACKAGES.rpartition("/")[0]):
        root.remove_if_empty(folder)
