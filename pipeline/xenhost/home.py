"""A cluster that lives on a Xen host, as seen from here: its libvirt, the way to its machines, what they write."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import foreign
from pipeline.errors import ClusterError
from pipeline.hypervisor import lifecycle, logs, namespace
from pipeline.hypervisor.connection import connect
from pipeline.hypervisor.namespace import Namespace
from pipeline.run import spawn
from pipeline.xenhost.access import Access
from pipeline.xenhost.follow import KERNEL
from pipeline.xenhost.keeper import Keeper
from pipeline.xenhost.script import Script


@dataclass(frozen=True)
class XenHome:
    """A cluster that lives on a Xen host.  `testbed` is its namespace, if it is one of ours."""

    cluster: str
    run_dir: Path
    access: Access
    script: Script
    testbed: Namespace | None

    @property
    def libvirt_uri(self) -> str:
        return self.access.uri

    @property
    def ssh_proxy_command(self) -> str:
        return self.access.proxy_command

    @property
    def kernel_log(self) -> Path:
        """What dom0's kernel says."""
        return self.run_dir / "console" / f"{KERNEL}.log"

    @property
    def disks_are_here(self) -> bool:
        return self.testbed is not None

    def pidfd(self) -> int:
        """Readable when the testbed ends; another container's end is told by libvirt's connection alone."""
        return self.testbed.pidfd() if self.testbed else os.eventfd(0, os.EFD_CLOEXEC)

    def ends_with_testbed(self, *, within: float) -> bool:
        """Whether its testbed is being ended meanwhile, which takes a moment; nothing is left of the cluster then."""
        if self.testbed is None:
            return False
        try:
            end = self.testbed.pidfd()
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([end], [], [], within)[0])
        finally:
            os.close(end)

    def lost(self) -> ClusterError:
        """The error for a VM container that has ended under the cluster, with what it said last."""
        if self.testbed is None:
            return ClusterError(f"{self.access}, on which {self.cluster} runs, no longer answers",
                                hint="is it on?  The next run starts the cluster anew")
        console = self.testbed.run_dir / "console" / "dom0.log"
        said = logs.last(console, 4096)[0].decode("utf-8", "replace") if console.exists() else ""
        how = "no longer answers" if namespace.alive(self.testbed.run_dir) == self.testbed else "has ended"
        paused = self._why_paused(self.testbed) if how == "no longer answers" else ""
        return ClusterError(f"{self.testbed.cluster}, on which {self.cluster} runs, "
                            f"{f'is paused: {paused}' if paused else how}",
                            log=console, tail=foreign.last_lines(said, 12),
                            hint=f"doit cluster:{self.cluster} starts both anew")

    @staticmethod
    def _why_paused(testbed: Namespace) -> str:
        """A testbed that finds no space is paused, and with it all that runs on it."""
        with contextlib.suppress(ClusterError), connect(testbed.libvirt_uri, within=10) as connection:
            return next((machine.why for machine in lifecycle.machines(connection)), "")
        return ""

    @contextlib.contextmanager
    def consoles(self, names: Sequence[str], failed: Callable[[ClusterError], None]) -> Iterator[None]:
        """Within the block what machines write to their consoles is kept here, and their reports are picked out.

        `failed` is told when that comes to an end before the block does.
        """
        keeper = Keeper(self.run_dir, names)
        argv = self.access.argv(self.script("follow", *keeper.begin()))
        left = threading.Event()
        with (tempfile.TemporaryFile() as errors,
              spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process):
            assert process.stdin is not None and process.stdout is not None
            pieces = process.stdout

            def follow() -> None:
                try:
                    keeper.take(pieces)
                    reason = "no longer comes from there"
                except OSError as error:
                    reason = f"cannot be kept in {self.run_dir}: {error.strerror}"
                except Exception as error:  # or the thread would end, and waits only with their deadlines
                    reason = f"cannot be read: {error}"
                if not left.is_set():
                    errors.seek(0)
                    failed(ClusterError(f"{self.access}: what machines write {reason}",
                                        tail=errors.read(4096).decode("utf-8", "replace"),
                                        hint=f"doit cluster:{self.cluster} tries again"))

            thread = threading.Thread(target=follow, name="consoles", daemon=True)
            thread.start()
            try:
                yield
            finally:
                left.set()
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
        thread.join(timeout=10)
