"""A VM container, as the programs of this machine reach it: its libvirt's URI says how.

`qemu:///system` is this machine, `qemu+ssh://root@MACHINE/system` another one, with libvirt's own parameters:
`keyfile`, `no_verify`, `command` (a program instead of ssh).  Commands and files go the way that libvirt goes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline import ssh
from pipeline.errors import ClusterError, CommandError, Unreachable
from pipeline.run import Completed, run, spawn

#: Seconds for a connection; an emulated machine takes one to five.
_CONNECT = 60
#: Seconds without a byte after which an upload is given up.
_STALLED = 120


class Access:
    """The way to a VM container: its URI, and the ssh command line that ends with its address (() = this machine)."""

    def __init__(self, uri: str, ssh: tuple[str, ...]) -> None:
        self.uri = uri
        self.ssh = ssh
        self._shared: tuple[str, ...] = ()

    @property
    def proxy_command(self) -> str:
        """For ssh's ProxyCommand: how machines on the container's bridges are reached ("" = directly)."""
        *words, address = (word.replace("%", "%%") for word in self.ssh) if self.ssh else ("",)
        return shlex.join([*words, "-W", "[%h]:%p", address]) if address else ""

    def argv(self, script: str) -> list[str]:
        """The command line that runs POSIX sh text there."""
        shell = ["sh", "-c", script]
        return [*self.ssh[:-1], *self._shared, self.ssh[-1], shlex.join(shell)] if self.ssh else shell

    @contextlib.contextmanager
    def lease(self, otherwise: str) -> Iterator[None]:
        """Within the block POSIX sh text waits there, to be run if this process ends without leaving the block.

        All else that is done there meanwhile shares its connection, for a new one costs an emulated machine a second.
        """
        argv = self.argv(f'read -r word\n[ "$word" = kept ] && exit 0\n{otherwise}')
        shared: tuple[str, ...] = ()
        with contextlib.ExitStack() as stack:
            if self.ssh:
                shared = ("-o", ssh.option("ControlPath", stack.enter_context(ssh.socket_folder()) / "way"))
                argv[-2:-2] = ["-M", *shared]
            holder = stack.enter_context(
                spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, lasting=True)
            )
            assert holder.stdin is not None
            self._shared = shared
            try:
                yield
            finally:
                self._shared = ()
                with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
                    holder.communicate(b"kept\n", timeout=_CONNECT)

    def run(self, script: str, *, within: float = 120) -> Completed:
        """Run POSIX sh text there as root; raises ClusterError with the last lines when it fails."""
        try:
            done = run(self.argv(script), timeout=within + _CONNECT, check=False)
        except CommandError as error:
            raise Unreachable(f"{self}: no answer", tail=error.tail, hint=self._hint()) from None
        if done.status:
            broken = self.ssh and done.status == 255
            words = (done.stderr or done.stdout).strip().splitlines()
            if broken:
                raise ssh.broken(str(self), "cannot be reached", done.stderr, hint=self._hint())
            raise ClusterError(f"{self}: {words[-1] if words else 'failed'}", tail="\n".join(words[-12:]))
        return done

    def upload(
        self,
        source: Path,
        target: str,
        on_progress: Callable[[str], None] = lambda _percent: None,
        *,
        uploader: str = "",
    ) -> None:
        """Bring a large file to `target` there, whole or not at all: interrupted, the next call goes on where it ended.

        Of what lies there under the name that it has meanwhile only what differs travels, however it came there.
        rsync compares a checksum of the whole file when it has come, and it gets its name only then.  Where several
        may bring the same file, each `uploader` does it under a name of its own; the last one's is as good as any.
        """
        partial = f"{target}.{uploader}.part" if uploader else f"{target}.part"
        self._rsync(
            [
                "--sparse",
                "--partial",
                "--inplace",
                "--no-whole-file",
                "--ignore-times",
                "--compress",
                "--info=progress2",
                "--copy-links",
                "--chmod=F600",
                str(source),
            ],
            partial,
            on_progress,
        )
        self.run(f"mv {shlex.quote(partial)} {shlex.quote(target)}")

    def upload_folder(self, source: Path, target: str) -> None:
        """Bring the few files of a folder into the folder `target` there."""
        self._rsync(
            ["--recursive", "--copy-links", "--whole-file", "--chmod=F600", f"{source}/"],
            f"{target}/",
            lambda _percent: None,
        )

    def _rsync(self, words: list[str], target: str, on_progress: Callable[[str], None]) -> None:
        where = target
        command = ["rsync", "--times", f"--timeout={_STALLED}", *words]
        if self.ssh:
            command[1:1] = ["--rsh", shlex.join([*self.ssh[:-1], *self._shared])]
            where = f"{self.ssh[-1]}:{target}"
        with spawn([*command, where], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            said = ""
            while data := os.read(process.stdout.fileno(), 4096):
                said = (said + data.decode("utf-8", "replace"))[-2000:]
                for percent in re.findall(r"\b(\d{1,3}%)", said.rpartition("\r")[2])[-1:]:
                    on_progress(percent)
            status = process.wait()
        if status:
            full = "No space left on device" in said
            raise ClusterError(
                f"{self}: {words[-1]} could not be brought there",
                tail="\n".join(said.replace("\r", "\n").strip().splitlines()[-12:]),
                hint="make room in /var/lib/xen-oscar there" if full else "run again: it goes on where it ended",
            )

    def __str__(self) -> str:
        return self.ssh[-1] if self.ssh else "this machine"

    def _hint(self) -> str:
        return f"is it on, and does this work: {shlex.join([*self.ssh, 'true'])}" if self.ssh else ""


def of(uri: str) -> Access:
    """The way that a libvirt URI names."""
    parts = urllib.parse.urlsplit(uri)
    if not parts.hostname:
        return Access(uri, ())
    given = dict(urllib.parse.parse_qsl(parts.query))
    words = [
        given.get("command", "ssh"),
        "-o",
        "BatchMode=yes",
        "-o",
        f"ConnectTimeout={_CONNECT}",
        "-o",
        "ServerAliveInterval=10",
        "-o",
        "ServerAliveCountMax=6",
        "-o",
        ssh.LOG_LEVEL,
    ]
    if parts.port:
        words += ["-p", str(parts.port)]
    if "keyfile" in given:
        words += ["-i", given["keyfile"]]
    if given.get("no_verify") == "1":  # and a key that nobody has verified is not kept for others to trust
        words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    return Access(uri, (*words, f"{parts.username or 'root'}@{parts.hostname}"))
