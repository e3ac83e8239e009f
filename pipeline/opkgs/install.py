"""The top layer of a machine: what the cluster is called, and the files and scripts of its OPKGs, in manifest order.

An OPKG folder is `config.xml`, `scripts/PHASE`, `files/{common,server,client}/PATH-BELOW-/`, `testing/`, and what its
scripts need besides.  The head node keeps all of it below /usr/lib/oscar/packages, as OSCAR does, because later phases
and the tests run there; a compute node has it only while its script runs.  What scripts need to know of the cluster
stands in /etc/oscar.

Scripts that name their phase as OSCAR 4 and 5 did are installed under the present name, so nobody else has to know.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pipeline.confine import NOT_STARTED
from pipeline.description import Cluster
from pipeline.errors import BuildError, CommandError
from pipeline.layers import stacking
from pipeline.manifests.kept import Kept
from pipeline.manifests.opkg import HEAD_UP_PHASES, PHASES, TESTS, has_script
from pipeline.rootfs import RootFs
from pipeline.sandbox import PATH, chroot_run
from pipeline.step import Job

Side = Literal["head", "compute"]

#: Where an OPKG lies on the head node.
PACKAGES = "/usr/lib/oscar/packages"

#: The phase that runs while the root of a side is built, and the folders of files that go there.
_PHASE: dict[Side, str] = {"head": "server-post-install", "compute": "client-post-install"}
_FILES: dict[Side, tuple[str, ...]] = {"head": ("common", "server"), "compute": ("common", "client")}

#: What stands in the way of a file, by the error that it makes.
_WRONG_KIND = {errno.EISDIR: "there is a folder", errno.ENOTDIR: "a file stands where it needs a folder",
               errno.EEXIST: "a file stands where it needs a folder", errno.ELOOP: "links on the way lead in a circle"}

#: A script that takes longer waits for something it will not get in a sandbox.  Seconds.
_DEADLINE = 300.0


def build(job: Job) -> None:
    """Builder: one layer with /etc/oscar, /etc/hosts and everything the OPKGs bring to this side."""
    cluster = Cluster.from_json(job.params["cluster"])
    side: Side = job.params["side"]
    opkgs: list[str] = job.params["opkgs"]
    files = {path: Kept.parse(kept) for path, kept in job.step.files}
    with stacking.changed(job) as root, RootFs(root) as inside:
        describe(inside, cluster)
        for done, name in enumerate(opkgs):
            job.progress(done, len(opkgs), "OPKGs")
            apply(inside, name, job.recipes, files, side, job.log)
            stacking.require_kept(job, f"OPKG {name}")
        if side == "head":
            for name in opkgs:
                for script in _run_later(name, files):
                    _require_startable(inside, name, script, side)


def describe(root: RootFs, cluster: Cluster) -> None:
    """Write /etc/oscar and /etc/hosts: all that scripts, services and people may know of the cluster."""
    head = cluster.head
    variables = {
        "OSCAR_CLUSTER": cluster.name,
        "OSCAR_DOMAIN": cluster.domain,
        "OSCAR_HEAD": head.name,
        "OSCAR_HEAD_ADDRESS": head.address_on("private"),
        "OSCAR_HEAD_PUBLIC_ADDRESS": head.address_on("public"),
        "OSCAR_NODES": " ".join(node.name for node in cluster.nodes),
        "OSCAR_PRIVATE_CIDR": cluster.network("private").cidr,
    }
    nodes = [(node.name, node.address_on("private"), node.interfaces[0].mac, node.cpus, node.memory_mib)
             for node in cluster.nodes]
    hosts = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    hosts += [f"{machine.address_on('private')} {machine.name}.{cluster.domain} {machine.name}"
              for machine in cluster.machines]
    root.write("/etc/oscar/cluster.json", json.dumps(cluster.to_json(), indent=1, sort_keys=True) + "\n")
    root.write("/etc/oscar/cluster.sh", "".join(f"{key}={shlex.quote(value)}\n" for key, value in variables.items()))
    root.write("/etc/oscar/nodes", "".join(" ".join(map(str, node)) + "\n" for node in nodes))
    root.write("/etc/hosts", "\n".join(hosts) + "\n")


def apply(root: RootFs, name: str, recipes: Path, files: Mapping[str, Kept], side: Side, log: Path) -> None:
    """Bring one OPKG to `root`: its files for this side, then its script.  `files` are paths below `recipes`."""
    folder = f"opkgs/{name}/"
    home = f"{PACKAGES}/{name}"
    own = {path.removeprefix(folder): kept for path, kept in files.items() if path.startswith(folder)}
    for path, kept in own.items():
        _bring(recipes / folder / path, kept, root, f"{home}/{path}")
    _name_phases(root, f"{home}/scripts")
    for part in _FILES[side]:
        prefix = f"files/{part}/"
        for path, kept in own.items():
            if path.startswith(prefix):
                _bring(recipes / folder / path, kept, root, "/" + path.removeprefix(prefix))
    try:
        if has_script(_PHASE[side], name, files):
            _require_startable(root, name, f"scripts/{_PHASE[side]}", side)
            _run(root, name, _PHASE[side], log)
    finally:
        if side == "compute":
            _remove(root, home)


def _run(root: RootFs, name: str, phase: str, log: Path) -> None:
    home = f"{PACKAGES}/{name}"
    try:
        chroot_run(root.top, [f"{home}/scripts/{phase}"], env={"OSCAR_PACKAGE_HOME": home}, cwd=home, log=log,
                   timeout=_DEADLINE)
    except CommandError as error:
        hint = f"correct recipes/opkgs/{name}/scripts/{phase}"
        if NOT_STARTED not in error.tail:
            hint += "; `set -x` in it shows its steps"
        raise BuildError(f"OPKG {name}: script {phase} failed: {error.message}", hint=hint, log=log,
                         tail=error.tail) from None


def _name_phases(root: RootFs, folder: str) -> None:
    for phase, older in PHASES.items():
        there = [name for name in (phase, *older) if root.is_file(f"{folder}/{name}")]
        if there and there[0] != phase:
            root.write(f"{folder}/{phase}", root.read(f"{folder}/{there[0]}"), 0o755)


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
        if error.errno not in _WRONG_KIND:
            raise
        raise BuildError(f"{source}: it cannot be put at {path}: {_WRONG_KIND[error.errno]}",
                         hint="give it another name, or leave it out: packages or other OPKGs have made what is there"
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
    """The scripts and tests of an OPKG that run on the head node when it is up."""
    scripts = [f"scripts/{phase}" for phase in HEAD_UP_PHASES if has_script(phase, name, files)]
    return [*scripts, *(f"testing/{test}" for test in TESTS if f"opkgs/{name}/testing/{test}" in files)]


def _require_startable(root: RootFs, name: str, script: str, side: Side) -> None:
    """Raise BuildError unless a script that shall run is there, and so is its interpreter."""
    where = "the head node" if side == "head" else "compute nodes"
    path = f"{PACKAGES}/{name}/{script}"
    if not root.is_file(path):
        raise BuildError(f"OPKG {name}: {script} should run on {where} and is not there",
                         hint="a script or package that ran before has taken it away or put a link in its place")
    wanted, places = _interpreter(root.read(path))
    if wanted and not any(root.is_file(place) for place in places):
        raise BuildError(f"OPKG {name}: {script} cannot be started on {where}: its interpreter {wanted} is not there",
                         hint=f"name the package that has it in recipes/opkgs/{name}/config.xml, in "
                              + ("serverDeps" if side == "head" else "clientDeps"))


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
