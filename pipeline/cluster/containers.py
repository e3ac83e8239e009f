"""Where a cluster lives: a VM container of its own on this machine, or a Xen host that it shares with others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline.description import Cluster
from pipeline.errors import ClusterError
from pipeline.hypervisor import namespace
from pipeline.hypervisor.disks import Given
from pipeline.hypervisor.watch import Home

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.step import Plan


class Container(Protocol):
    """What a cluster asks of the VM container that it runs on."""

    def find(self) -> Home | None:
        """The cluster's home, if it is up."""

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path]) -> Home:
        """Make the cluster's networks and bring its disks; machines can be started then."""

    def check(self, home: Home) -> None:
        """Raise ClusterError where machines can't be started because what the cluster needs has gone meanwhile."""

    def stop(self) -> None:
        """End the cluster's machines and networks."""

    def lease(self) -> AbstractContextManager[None]:
        """Within the block half a cluster does not outlive this run."""

    def consoles(self, home: Home, names: Sequence[str]) -> AbstractContextManager[None]:
        """Within the block what machines write arrives in the run folder."""


class Private:
    """Namespaces and a libvirt of the cluster's own on this machine."""

    def __init__(self, cluster: Cluster, run_dir: Path, cache: Path) -> None:
        self._cluster = cluster
        self._run_dir = run_dir
        self._cache = cache

    def find(self) -> Home | None:
        return namespace.alive(self._run_dir)

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path]) -> Home:
        return namespace.start(self._run_dir, self._cluster.networks, cache=self._cache)

    def check(self, home: Home) -> None:
        pass  # what a cluster has is its own, and goes with it

    def stop(self) -> None:
        namespace.stop(self._run_dir)

    def lease(self) -> AbstractContextManager[None]:
        return namespace.lease(self._run_dir)

    @contextlib.contextmanager
    def consoles(self, home: Home, names: Sequence[str]) -> Iterator[None]:
        yield  # QEMU writes them there itself


def of(plan: Plan, cluster: Cluster, run_dir: Path, engine: Engine) -> Container:
    """The container that the cluster's manifest names."""
    host = plan.hosts[cluster.host]
    if host.connection == "private":
        return Private(cluster, run_dir, engine.artifacts / "cache")
    from pipeline.xenhost.container import XenContainer
    from pipeline.xenhost.testbed import Testbed

    return XenContainer(cluster, run_dir, host.connection,
                        Testbed(host, engine) if host.connection == "testbed" else None)


def required(home: Home | None, cluster: str) -> Home:
    """Raise ClusterError unless the cluster has a home."""
    if home is None:
        raise ClusterError(f"{cluster} does not run", hint=f"doit cluster:{cluster}")
    return home
