"""Secrets and identity of a cluster: made once, kept outside the store with mode 0600, never in an artifact.

    artifacts/identity/CLUSTER/
        secrets/PATH    what the OPKGs have declared: random bytes that all machines share
        person/         the key with which the person at the host enters the head node, and its known_hosts
        machines/NAME/  what goes over the root file system of each machine: ssh host key, machine id, ssh keys

A machine gets its part when it starts (the head node: a tar stream on a small disk of its own) or when it is
installed (compute nodes: the head node serves it).  What is no secret but a machine's own goes with it.  The files are
given without owners: the machine that unpacks them knows its own users.
"""

from __future__ import annotations

import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

from pipeline.builders.settings import Settings
from pipeline.description import Cluster, Machine, Secret
from pipeline.guests import flavours
from pipeline.guests.guest import KeyType
from pipeline.run import run
from pipeline.sandbox import SOURCE_DATE_EPOCH

#: First part of every member's name on the identity disk: how the head node knows the disk.
ARCHIVE_PREFIX = "xen-oscar-identity"

#: Accounts that may go from any machine of the cluster to any other: the administrator and the test user.
_ACCOUNTS = {"root": "root", "oscartst": "home/oscartst"}


def folder_of(own: Path, cluster: str) -> Path:
    """Where a checkout, whose own things are in the folder `own`, keeps the keys of a cluster."""
    return own / "identity" / cluster


class Identity:
    """The identity of one cluster; made on first use."""

    @classmethod
    def of(cls, own: Path, cluster: Cluster) -> Self:
        """That of a cluster of the checkout whose own things are in the folder `own`."""
        return cls(folder_of(own, cluster.name), cluster)

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self._type = flavours.of(cluster.guest).key
        self._ensure()

    @property
    def person_key(self) -> Path:
        """The private key for root on the head node."""
        return self.folder / "person" / f"id_{self._type}"

    @property
    def known_hosts(self) -> Path:
        """The head node's host key, for the person's ssh."""
        return self.folder / "person" / "known_hosts"

    def write_archive(
        self,
        target: Path,
        names: Mapping[str, str] = MappingProxyType({}),
        settings: Mapping[str, Settings] = MappingProxyType({}),
    ) -> None:
        """Write the head node's identity disk: `archive` in whole sectors."""
        data = self.archive(names, settings)
        data += bytes(-len(data) % (1 << 20))  # a disk is made of whole sectors; a round MiB suits every hypervisor
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)

    def archive(self, names: Mapping[str, str], settings: Mapping[str, Settings]) -> bytes:
        """A tar stream, `PREFIX/root/` for the head node itself, `PREFIX/nodes/NAME/` for each node, `PREFIX/common/`
        for all nodes.

        With that go files that are no secrets: `names` for all machines, by path, and `settings` by machine.
        """
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for machine in self.cluster.machines:
                place = "root" if machine.role == "head" else f"nodes/{machine.name}"
                self._add(archive, self.folder / "machines" / machine.name, f"{ARCHIVE_PREFIX}/{place}")
                if machine.name in settings:
                    _add_settings(archive, settings[machine.name], f"{ARCHIVE_PREFIX}/{place}")
                for secret in self.cluster.secrets:  # whose folders are the machine's own
                    self._add(archive, self._secret(secret), f"{ARCHIVE_PREFIX}/{place}{secret.path}")
            for place in ("root", "common"):
                _add_settings(archive, Settings(names, {}), f"{ARCHIVE_PREFIX}/{place}")
        return stream.getvalue()

    @staticmethod
    def _add(archive: tarfile.TarFile, source: Path, name: str) -> None:
        for path in [source, *sorted(source.rglob("*"))]:
            member = archive.gettarinfo(path, f"{name}/{path.relative_to(source)}" if path != source else name)
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            if path.is_file():
                with path.open("rb") as file:
                    archive.addfile(member, file)
            else:
                archive.addfile(member)

    def files(self, machine: str) -> dict[str, Path]:
        """Where those lie that a machine gets, by the path that they have there."""
        root = self.folder / "machines" / machine
        own = {f"/{path.relative_to(root)}": path for path in sorted(root.rglob("*")) if path.is_file()}
        return {**own, **{secret.path: self._secret(secret) for secret in self.cluster.secrets}}

    def secrets(self, declared: Sequence[Secret]) -> dict[str, Path]:
        """Where those lie that OPKGs have declared, by the path that they get; made on first use."""
        for secret in declared:
            self._ensure_secret(secret)
        return {secret.path: self._secret(secret) for secret in declared}

    def _ensure_secret(self, secret: Secret) -> None:
        file = self._secret(secret)
        if not file.exists() or file.stat().st_size != secret.size:
            _write(file, secrets.token_bytes(secret.size))

    def _secret(self, secret: Secret) -> Path:
        return self.folder / "secrets" / secret.path.removeprefix("/")

    def _ensure(self) -> None:
        """Make what is missing: a cluster that grew gets identities for its new nodes, the others keep theirs."""
        machines = self.folder / "machines"
        machines.mkdir(parents=True, exist_ok=True)
        for folder in (self.folder, machines):
            folder.chmod(0o700)
        _ssh_key(self.person_key, self._type, f"person@{self.cluster.name}")
        for account in _ACCOUNTS:
            _ssh_key(self.folder / "accounts" / account, self._type, f"{account}@{self.cluster.name}")
        for secret in self.cluster.secrets:
            self._ensure_secret(secret)
        for machine in self.cluster.machines:
            _ssh_key(machines / machine.name / self._host_key, self._type, f"root@{machine.name}")
        known = "".join(self._known_host(machine) for machine in self.cluster.machines)
        for machine in self.cluster.machines:
            self._furnish(machine, machines / machine.name, known)
        _write(self.known_hosts, self._known_host(self.cluster.head).encode())

    def _furnish(self, machine: Machine, root: Path, known: str) -> None:
        identifier = root / "etc/machine-id"
        if not identifier.exists():
            _write(identifier, (secrets.token_hex(16) + "\n").encode(), 0o444)
        _write(root / "etc/ssh/ssh_known_hosts", known.encode(), 0o644)
        for account, home in _ACCOUNTS.items():
            private = self.folder / "accounts" / account
            public = private.with_suffix(".pub").read_bytes()
            if machine.role == "head" and account == "root":
                public += self.person_key.with_suffix(".pub").read_bytes()
            _write(root / home / f".ssh/id_{self._type}", private.read_bytes())
            _write(root / home / ".ssh/authorized_keys", public)
            (root / home / ".ssh").chmod(0o700)

    @property
    def _host_key(self) -> str:
        return f"etc/ssh/ssh_host_{self._type}_key"

    def _known_host(self, machine: Machine) -> str:
        key = (self.folder / "machines" / machine.name / f"{self._host_key}.pub").read_text().split()[:2]
        names = [machine.name, f"{machine.name}.{self.cluster.domain}", *(card.address for card in machine.interfaces)]
        return f"{','.join(names)} {' '.join(key)}\n"


def _add_settings(archive: tarfile.TarFile, settings: Settings, place: str) -> None:
    for path, text in settings.files.items():
        member = tarfile.TarInfo(place + path)
        member.mode, member.size, member.mtime = 0o644, len(text.encode()), SOURCE_DATE_EPOCH
        archive.addfile(member, io.BytesIO(text.encode()))
    for path, target in settings.links.items():
        member = tarfile.TarInfo(place + path)
        member.type, member.linkname, member.mode, member.mtime = tarfile.SYMTYPE, target, 0o777, SOURCE_DATE_EPOCH
        archive.addfile(member)


def _ssh_key(path: Path, type: KeyType, comment: str) -> None:
    """Make it, unless there is one of that type."""
    public = path.with_name(path.name + ".pub")
    if public.exists() and public.read_text().startswith(f"ssh-{type} "):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        # OpenSSH of the days of RSA reads no other form
        form = ["-m", "PEM"] if type == "rsa" else []
        run(["ssh-keygen", "-q", "-t", type, *form, "-N", "", "-C", comment, "-f", made])
        made.rename(path)
        made.with_name(path.name + ".pub").rename(public)


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file whole or not at all, and only if it differs."""
    if path.exists() and path.read_bytes() == data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
    temporary.rename(path)
