"""Another machine, as far as one can have it here: namespaces with a libvirtd and an ssh server of their own.

They have the programs of this machine, but folders, network and libvirt are theirs, and ssh is all that leads there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import sandbox, store
from pipeline.description import Network
from pipeline.hosts import namespace
from pipeline.hosts.namespace import Namespace
from pipeline.run import spawn

#: Of its only network; nobody else sees it.
ADDRESS, CIDR = "10.99.0.1", "10.99.0.0/24"
_MACHINE = Network("lan", CIDR, ADDRESS)
#: A user id that is nobody's there.
_SSHD = 65000
_CONFIGURATION = f"""
ListenAddress {ADDRESS}
HostKey /root/host
UsePAM no
PidFile none
MaxSessions 64
"""


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


class OtherMachine:
    """`folder` has its /root and its /var/lib/xen-oscar."""

    def __init__(self, folder: Path, home: Namespace) -> None:
        self.folder = folder
        self.home = home
        self.pool = folder / "pool"
        self.ssh = folder / "ssh"
        self.server = 0

    @property
    def uri(self) -> str:
        """Its libvirt, as another machine's is reached."""
        return f"qemu+ssh://root@{ADDRESS}/system?command={urllib.parse.quote(str(self.ssh))}&no_tty=1"

    def enter(self, *words: str) -> list[str]:
        """A command as it runs there."""
        return [
            "nsenter",
            "--target",
            str(self.home.pid),
            "--user",
            "--mount",
            "--net",
            "--pid",
            "--uts",
            "--ipc",
            *words,
        ]

    def run(self, script: str) -> str:
        """What POSIX sh text prints there."""
        done = subprocess.run(self.enter("sh", "-c", script), capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def connections(self) -> list[int]:
        """The processes of its ssh server that each serve one connection."""
        (server,) = children(self.server)  # which nsenter has started
        return children(server)

    def know_as(self, key: str) -> None:
        """From now on this is the host key that one expects of it."""
        (self.folder / "known_hosts").write_text(f"{ADDRESS} {key}\n")

    @property
    def key(self) -> str:
        return " ".join((self.folder / "root/host.pub").read_text().split()[:2])


@contextlib.contextmanager
def running(folder: Path, cache: Path, package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherMachine]:
    """Such a machine for as long as the block lasts; `package` is one of OpenSSH's server."""
    root = folder / "root"
    for made in (folder / "pool", root / ".ssh"):
        made.mkdir(parents=True)
    subprocess.run(["dpkg-deb", "--extract", package, root / "sshd"], check=True)
    for path in (root / "host", folder / "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    (root / ".ssh/authorized_keys").write_bytes((folder / "key.pub").read_bytes())
    (root / "sshd_config").write_text(_CONFIGURATION)
    (folder / "passwd").write_text(f"{Path('/etc/passwd').read_text()}\nsshd:x:{_SSHD}:65534::/run/sshd:/bin/false\n")
    (folder / "passwd").chmod(0o644)
    (folder / "shadow").write_text("root:*:19000:0:99999:7:::\n")  # no password, and not locked either
    for path in (folder / "pool", folder / "shadow", root, *root.rglob("*")):
        sandbox.give(path)
    original = namespace._view

    def view(*given: Any) -> sandbox.View:
        made = original(*given)
        boot = (Path("/boot"),) if Path("/boot").is_dir() else ()
        return dataclasses.replace(
            made,
            reads=(*made.reads, *boot),
            folders=(*made.folders, "/run/sshd"),
            places=(
                *made.places,
                (folder / "pool", "/var/lib/xen-oscar"),
                (root, "/root"),
                (folder / "passwd", "/etc/passwd"),
                (folder / "shadow", "/etc/shadow"),
            ),
        )

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(namespace, "_view", view)
        home = namespace.start(folder / "run", [_MACHINE], cache=cache)
    machine = OtherMachine(folder, home)
    try:
        server = machine.enter("/root/sshd/usr/sbin/sshd", "-D", "-e", "-f", "/root/sshd_config")
        with (folder / "sshd.log").open("wb") as log, spawn(server, stderr=log) as entering:
            machine.server = entering.pid
            proxy = shlex.join(home.command(["socat", "-", "TCP:%h:%p,nodelay,retry=20,interval=0.5"]))
            machine.ssh.write_text(
                f"#!/bin/sh\nexec ssh -F none -i {shlex.quote(str(folder / 'key'))} "
                f"-o UserKnownHostsFile={shlex.quote(str(folder / 'known_hosts'))} "
                f'-o StrictHostKeyChecking=yes -o {shlex.quote(f"ProxyCommand={proxy}")} "$@"\n'
            )
            machine.ssh.chmod(0o700)
            machine.know_as(machine.key)
            yield machine
    finally:
        namespace.stop(folder / "run")
        store.remove(folder)
