"""The person's own ssh into a cluster: through its namespace to the head node, and from there to the nodes.

Keys, known_hosts and the program itself stay outside the namespace.  One connection to the head node is opened and
shared, because under emulation a new one costs seconds of processor time.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.description import Cluster
from pipeline.errors import ClusterError, CommandError
from pipeline.guests import flavours
from pipeline.identity import Identity
from pipeline.run import first_line, run, spawn, stream
from pipeline.ssh import LOG_LEVEL, broken, option, socket_folder

#: Seconds for a connection to be made; under emulation 1 to 5 were measured.
_CONNECT = 60


class ClusterShell:
    """Runs commands on the machines of one running cluster (what `checks` needs of a cluster)."""

    def __init__(self, cluster: Cluster, identity: Identity, proxy_command: str, log: Path) -> None:
        self.cluster = cluster
        self._log = log
        self._options = [
            "-F",
            "none",
            "-o",
            option("IdentityFile", identity.person_key),
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            option("UserKnownHostsFile", identity.known_hosts),
            "-o",
            "GlobalKnownHostsFile=none",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            f"ConnectTimeout={_CONNECT}",
            "-o",
            LOG_LEVEL,
            "-o",
            f"ProxyCommand={proxy_command}",
            *(word for name, value in flavours.of(cluster.guest).ssh.items() for word in ("-o", f"{name}={value}")),
        ]
        self._shared: list[str] = []
        self._target = f"root@{cluster.head.address_on('public')}"

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Keep one connection to the head node open within the block; there may be one already."""
        if self._shared:
            yield
            return
        with socket_folder() as folder, self._log.open("w+b") as log:
            shared = ["-o", option("ControlPath", folder / "head")]
            # what ssh runs here once the connection is there and can be shared
            told = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo connected"]
            with spawn(
                ["ssh", *self._options, *shared, *told, "-o", "BatchMode=yes", "-M", "-N", self._target],
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process:
                if first_line(process, 2 * _CONNECT) != b"connected\n":
                    head = self.cluster.head.name
                    raise broken(
                        head,
                        "no ssh connection to the head node",
                        self._log.read_text(errors="replace"),
                        hint=f"doit console {self.cluster.name} {head}",
                        log=self._log,
                    )
                self._shared = shared
                try:
                    yield
                finally:
                    self._shared = []

    @property
    def command(self) -> list[str]:
        """ssh with all that it needs to know to enter the head node, but for the address."""
        return ["ssh", *self._options, *self._shared]

    def argv(self, machine: str, command: str, *, tty: bool) -> list[str]:
        """The ssh command line that runs `command`, which is shell text as ssh has it, or a login shell if empty."""
        words = ["ssh", *self._options, *self._shared, *(["-t"] if tty else []), self._target]
        if machine != self.cluster.head.name:
            hop = ["ssh", "-o", "LogLevel=ERROR", *(["-t"] if tty else []), machine]
            command = shlex.join([*hop, *([command] if command else [])])
        return [*words, *([command] if command else [])]

    def run(
        self, machine: str, script: str, *, user: str = "root", data: bytes = b"", timeout: float
    ) -> tuple[int, str, str]:
        """Run POSIX sh text on a machine: (exit status, standard output, standard error).

        It can read `data`, and is then a word of a command line: 100 KiB at most.
        """
        command, given = (shlex.join(["sh", "-c", script]), data) if data else ("sh -s", script.encode())
        if user != "root":
            command = f"runuser -l {shlex.quote(user)} -c {shlex.quote(command)}"
        try:
            done = run(self.argv(machine, command, tty=False), input=given, timeout=timeout, check=False)
        except CommandError as error:
            raise ClusterError(
                f"{machine}: {error.message.partition(':')[0]} for a command",
                tail=error.tail,
                hint=f"doit ssh {self.cluster.name} {machine}",
            ) from None
        if done.status == 255:
            raise broken(
                machine, "the ssh connection broke", done.stderr, hint=f"doit console {self.cluster.name} {machine}"
            )
        return done.status, done.stdout, done.stderr

    def send(self, machine: str, command: str, data: bytes, *, timeout: float) -> None:
        """Have a command on a machine, which is shell text, read this; raises ClusterError where it fails."""
        try:
            run(self.argv(machine, command, tty=False), input=data, timeout=timeout)
        except CommandError as error:
            raise ClusterError(
                f"{machine}: {command}: {error.message.partition(':')[0]}",
                tail=error.tail,
                hint=f"doit ssh {self.cluster.name} {machine}",
            ) from None

    def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
        """Run POSIX sh text on a machine as root: what it prints, line by line as it comes, long ones in pieces."""
        try:
            for line in stream(self.argv(machine, "sh -s", tty=False), input=script.encode(), timeout=timeout):
                yield line.decode("utf-8", "replace")
        except CommandError as error:
            how = error.message.partition(":")[0]
            if how == "exit status 255":
                raise broken(
                    machine, "the ssh connection broke", error.tail, hint=f"doit console {self.cluster.name} {machine}"
                ) from None
            raise ClusterError(
                f"{machine}: {how} for a command", tail=error.tail, hint=f"doit ssh {self.cluster.name} {machine}"
            ) from None
