"""A cluster that lives on a Xen host, as seen from here: its libvirt, the way to its machines, what they write."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline.errors import ClusterError
from pipeline.hypervisor import namespace
from pipeline.hypervisor.console import strip
from pipeline.hypervisor.namespace import Namespace
from pipeline.run import spawn
from pipeline.xenhost.access import Access
from pipeline.xenhost.script import Script

_REPORT = re.compile(r"^(?:\[[ \d.]+\] )?xen-oscar: ((?:STATUS|READY|DONE|FAIL)\b.*)")

#: What dom0's kernel says is kept as if a machine of this name had said it; none can have it.
KERNEL = "_dom0"


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
        said = console.read_bytes()[-4096:].split(b"\n") if console.exists() else []
        how = "no longer answers" if namespace.alive(self.testbed.run_dir) == self.testbed else "has ended"
        return ClusterError(f"{self.testbed.cluster}, on which {self.cluster} runs, {how}", log=console,
                            tail="\n".join([line for line in map(strip, said) if line][-12:]),
                            hint=f"doit cluster:{self.cluster} starts both anew")

    @contextlib.contextmanager
    def consoles(self, names: Sequence[str]) -> Iterator[None]:
        """Within the block what machines write to their consoles is kept here, and their reports are picked out."""
        seen = [word for name in names for word in (name, str(self._seen(name)))]
        with spawn(self.access.argv(self.script("follow", *seen)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                   stderr=subprocess.DEVNULL) as process:
            assert process.stdin is not None and process.stdout is not None
            thread = threading.Thread(target=self._keep, args=(process.stdout,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
        thread.join(timeout=10)

    def _seen(self, name: str) -> int:
        path = self.run_dir / "console" / f"{name}.log"
        return path.stat().st_size if path.exists() else 0

    def _keep(self, lines: IO[bytes]) -> None:
        for line in lines:
            name, _, rest = line.partition(b" ")
            with (self.run_dir / "console" / f"{name.decode()}.log").open("ab") as log:
                log.write(rest)
            found = _REPORT.match(strip(rest.rstrip(b"\n")))
            if found:
                with (self.run_dir / "report" / name.decode()).open("a") as report:
                    report.write(found[1] + "\n")
