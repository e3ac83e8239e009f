"""A cluster's place on a host: what every kind of host answers for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from pipeline.description import Machine
from pipeline.errors import ClusterError, NotNow
from pipeline.holding import Holder
from pipeline.hosts.shelf import Shelf
from pipeline.virt.accelerator import Found
from pipeline.virt.disks import Given
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity

#: Takes the reason, from another thread.
Failed = Callable[[ClusterError], None]


class Place(Protocol):
    """A cluster's share of one host, whether the cluster runs or not."""

    def find(self) -> Home | None:
        """The cluster's home there, if it is up."""

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path], holder: Holder) -> Home:
        """Make the cluster's networks and bring its disks; machines can be started then.

        `holder` holds the artifacts that this is done with; where machines go on reading them it stays.
        """

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """Make room for more machines of a cluster that runs, and bring their disks; raises ClusterError where there is
        none."""

    def provide(self, home: Home, machine: Machine) -> None:
        """Have a machine's disks for data there before it starts: new ones are empty, those that are there stay; raises
        ClusterError where one is larger than it should be."""

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        """Take what there is of machines that have ended: saved memory and disks, but for those that are kept."""

    def kept(self) -> Sequence[str]:
        """The disks that are kept there, as MACHINE.NAME, also of machines that the cluster has no longer."""

    def discard(self, disks: Sequence[str]) -> None:
        """Remove kept disks of machines that have ended, and what is on them."""

    def check(self, home: Home) -> None:
        """Raise ClusterError where machines can't be started because what the cluster needs has gone meanwhile."""

    def accelerator(self, here: Callable[[], Found]) -> Found:
        """How machines run there; `here` finds out what works on this machine."""

    def capacity(self, found: Found) -> Capacity:
        """What it can carry, with that accelerator."""

    def free_mib(self) -> int:
        """The memory in MiB that machines could have there now; raises ClusterError where it does not answer."""

    def require_memory(self, found: Found, machines: Sequence[Machine]) -> None:
        """Raise ClusterError where memory for these machines is sure to be missing, and nothing else sees to that."""

    def stop(self) -> None:
        """End the cluster's machines and networks."""

    def lease(self) -> AbstractContextManager[None]:
        """Within the block half a cluster does not outlive this run."""

    def explained(self) -> AbstractContextManager[None]:
        """If the block fails, what the host logged is kept in the run folder, and told."""

    def consoles(self, home: Home, names: Sequence[str], failed: Failed) -> AbstractContextManager[None]:
        """Within the block what machines write arrives in the run folder; `failed` is told when it no longer does."""

    def shelf(self, home: Home) -> Shelf:
        """Where the memory of saved machines lies."""


def required(home: Home | None, cluster: str) -> Home:
    """Raise ClusterError unless the cluster has a home."""
    if home is None:
        raise NotNow(f"{cluster} does not run", hint=f"doit cluster:{cluster}")
    return home
