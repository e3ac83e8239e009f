"""The top layer of a machine: what the cluster is called, and the files and scripts of its OPKGs, in manifest order.

An OPKG folder is `config.xml`, `scripts/PHASE`, `files/{common,server,client}/PATH-BELOW-/`, `testing/`.  The head
node keeps all of it below /usr/lib/oscar/packages, as OSCAR does, because later phases and the tests run there; a
compute node has it only while its script runs.  What scripts need to know of the cluster stands in /etc/oscar.

Scripts that name their phase as OSCAR 4 and 5 did are installed under the present name, so nobody else has to know.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
from pathlib import Path
from typing import Literal

from pipeline.build import layers
from pipeline.description import Cluster
from pipeline.errors import BuildError, CommandError
from pipeline.manifests.opkg import PHASES
from pipeline.rootfs import RootFs
from pipeline.sandbox import chroot_run
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
    files = [path for path, _ in job.step.files]
    with layers.changed(job) as root, RootFs(root) as inside:
        describe(inside, cluster)
        for done, name in enumerate(opkgs):
            job.progress(done, len(opkgs), "OPKGs")
            apply(inside, name, job.recipes, files, side, job.log)


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


def apply(root: RootFs, name: str, recipes: Path, files: list[str], side: Side, log: Path) -> None:
    """Bring one OPKG to `root`: its files for this side, then its script.  `files` are paths below `recipes`."""
    folder = f"opkgs/{name}/"
    home = f"{PACKAGES}/{name}"
    phase = _PHASE[side]
    own = [path.removeprefix(folder) for path in files if path.startswith(folder)]
    for path in own:
        _copy(recipes / folder / path, root, f"{home}/{path}", executable=_is_program(path))
    _name_phases(root, f"{home}/scripts")
    for part in _FILES[side]:
        prefix = f"files/{part}/"
        for path in own:
            if path.startswith(prefix):
                _copy(recipes / folder / path, root, "/" + path.removeprefix(prefix))
    try:
        if root.lstat(f"{home}/scripts/{phase}"):
            _run(root, name, phase, log)
    finally:
        if side == "compute":
            _remove(root, home)


def _run(root: RootFs, name: str, phase: str, log: Path) -> None:
    home = f"{PACKAGES}/{name}"
    try:
        chroot_run(root.top, [f"{home}/scripts/{phase}"], env={"OSCAR_PACKAGE_HOME": home}, cwd=home, log=log,
                   timeout=_DEADLINE)
    except CommandError as error:
        raise BuildError(f"OPKG {name}: script {phase} failed: {error.message}",
                         hint=f"correct recipes/opkgs/{name}/scripts/{phase}; `set -x` in it shows its steps", log=log,
                         tail=error.tail) from None


def _name_phases(root: RootFs, folder: str) -> None:
    for phase, older in PHASES.items():
        there = [name for name in (phase, *older) if root.is_file(f"{folder}/{name}")]
        if there and there[0] != phase:
            root.write(f"{folder}/{phase}", root.read(f"{folder}/{there[0]}"), 0o755)


def _is_program(path: str) -> bool:
    """Scripts and tests are run, whatever mode a checkout or an archive left them with."""
    return path.startswith(("scripts/", "testing/"))


def _copy(source: Path, root: RootFs, path: str, *, executable: bool = False) -> None:
    """Owner root; a program stays one, and nothing else of the source's mode or time counts."""
    try:
        if source.is_symlink():
            root.link(path, os.readlink(source))
        else:
            root.copy(source, path, 0o755 if executable or source.stat().st_mode & 0o100 else 0o644)
    except OSError as error:
        if error.errno not in _WRONG_KIND:
            raise
        raise BuildError(f"{source}: it cannot be put at {path}: {_WRONG_KIND[error.errno]}",
                         hint="give it another name, or leave it out: packages or other OPKGs have made what is there"
                         ) from None


def _remove(root: RootFs, home: str) -> None:
    """Take an OPKG's folder away again, and the folders above it that held nothing else."""
    root.remove(home)
    for folder in (PACKAGES, PACKAGES.rpartition("/")[0]):
        root.remove_if_empty(folder)
