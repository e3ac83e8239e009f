"""A cluster that lives on a host, as seen from here: its libvirt, the way to its machines, what they write."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.drivers import engines
from pipeline.errors import ClusterError
from pipeline.hosts.access import Access
from pipeline.hosts.follow import KERNEL
from pipeline.hosts.keeper import Keeper
from pipeline.hosts.script import Script
from pipeline.run import spawn

#: Seconds that what was said meanwhile may take to come.
_CAUGHT_UP = 120


@dataclass(frozen=True)
class GivenHome:
    """A cluster that lives on a host which is there, whatever we do."""

    cluster: str
    run_dir: Path
    access: Access
    script: Script

    @property
    def libvirt_uri(self) -> str:
        return self.access.uri

    @property
    def ssh_proxy_command(self) -> str:
        return self.access.proxy_command

    @property
    def kernel_log(self) -> Path | None:
        """What the host's kernel says, where that serves machines alone: on others it concerns everybody."""
        return self.run_dir / f"{KERNEL}.log" if engines.of(self.script.hypervisor).has_kernel else None

    @property
    def more(self) -> str:
        return ""  # its host's logs are fetched

    @property
    def disks_are_here(self) -> bool:
        return False

    def pidfd(self) -> int:
        """Never readable: its end is told by libvirt's connection alone."""
        return os.eventfd(0, os.EFD_CLOEXEC)

    def lost(self) -> ClusterError:
        """The error for a host that has ended under the cluster."""
        return ClusterError(
            f"{self.access}, on which {self.cluster} runs, no longer answers",
            hint="is it on?  The next run starts the cluster anew",
        )

    @contextlib.contextmanager
    def consoles(self, names: Sequence[str], failed: Callable[[ClusterError], None]) -> Iterator[None]:
        """Within the block what machines write to their consoles and report channels is kept here.

        `failed` is told when that comes to an end before the block does.
        """
        keeper = Keeper(self.run_dir, names, reports=engines.of(self.script.hypervisor).reports)
        argv = self.access.argv(self.script("follow", *keeper.begin()))
        left = threading.Event()
        with (
            tempfile.TemporaryFile() as errors,
            spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
        ):
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
                keeper.caught_up.set()  # or never
                if not left.is_set():
                    errors.seek(0)
                    failed(
                        ClusterError(
                            f"{self.access}: what machines write {reason}",
                            tail=errors.read(4096).decode("utf-8", "replace"),
                            hint=f"doit cluster:{self.cluster} tries again",
                        )
                    )

            thread = threading.Thread(target=follow, name="consoles", daemon=True)
            thread.start()
            # what an earlier start of a machine has said comes before it is started once more, and not after
            keeper.caught_up.wait(_CAUGHT_UP)
            try:
                yield
            finally:
                left.set()
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
        thread.join(timeout=10)
