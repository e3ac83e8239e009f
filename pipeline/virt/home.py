"""Where a running cluster lives, as seen from here."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from pipeline.errors import ClusterError


class Home(Protocol):
    """A folder with the consoles and reports of its machines, a libvirt, a way in by ssh."""

    @property
    def cluster(self) -> str: ...

    @property
    def run_dir(self) -> Path: ...

    @property
    def libvirt_uri(self) -> str: ...

    @property
    def ssh_proxy_command(self) -> str: ...

    @property
    def kernel_log(self) -> Path | None:
        """What the kernel of its VM container says; None where that is not looked at."""

    @property
    def more(self) -> str:
        """Where one finds more about a machine that did not start."""

    @property
    def disks_are_here(self) -> bool:
        """Whether this machine has the disks of the cluster's machines."""

    def pidfd(self) -> int: ...

    def lost(self) -> ClusterError:
        """The error for a cluster that has ended, or whose libvirt no longer answers."""
