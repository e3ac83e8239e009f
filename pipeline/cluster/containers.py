"""Where a cluster lives: a VM container of its own on this machine, or a Xen host that it shares with others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import checkout, events
from pipeline.description import Cluster, Host, Machine
from pipeline.errors import ClusterError
from pipeline.exclusive import exclusive
from pipeline.holding import Holder
from pipeline.hypervisor import memory, namespace
from pipeline.hypervisor.disks import Given, require_fit
from pipeline.hypervisor.domain import Accelerator
from pipeline.hypervisor.pace import Capacity
from pipeline.hypervisor.watch import Home
from pipeline.store import remove

if TYPE_CHECKING:
    from pipeline.engine import Engine


#: Takes the reason, from another thread.
Failed = Callable[[ClusterError], None]


class Container(Protocol):
    """What a cluster asks of the VM container that it runs on."""

    def find(self) -> Home | None:
        """The cluster's home, if it is up."""

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path], holder: Holder) -> Home:
        """Make the cluster's networks and bring its disks; machines can be started then.

        `holder` holds the artifacts that this is done with; where machines go on reading them it stays.
        """

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """Make room for more machines of a cluster that runs, and bring their disks; raises ClusterError where there is
        none."""

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        """Take what there is of machines that have ended: their disks and saved memory."""

    def check(self, home: Home) -> None:
        """Raise ClusterError where machines can't be started because what the cluster needs has gone meanwhile."""

    def capacity(self, accelerator: Accelerator) -> Capacity:
        """What it can carry; `accelerator` is what QEMU uses on this machine."""

    def require_memory(self, accelerator: Accelerator, machines: Sequence[Machine]) -> None:
        """Raise ClusterError where memory for these machines is sure to be missing, and nothing else sees to that."""

    def stop(self) -> None:
        """End the cluster's machines and networks."""

    def lease(self) -> AbstractContextManager[None]:
        """Within the block half a cluster does not outlive this run."""

    def explained(self) -> AbstractContextManager[None]:
        """If the block fails, what the container logged is kept in the run folder, and told."""

    def consoles(self, home: Home, names: Sequence[str], failed: Failed) -> AbstractContextManager[None]:
        """Within the block what machines write arrives in the run folder; `failed` is told when it no longer does."""


class Private:
    """Namespaces and a libvirt of the cluster's own on this machine."""

    def __init__(self, cluster: Cluster, run_dir: Path, cache: Path) -> None:
        self._cluster = cluster
        self._run_dir = run_dir
        self._cache = cache

    def find(self) -> Home | None:
        return namespace.alive(self._run_dir)

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path], holder: Holder) -> Home:
        remark = require_fit(self._run_dir / "disks", disks)
        if remark:
            events.note(f"{self._cluster.name}: {remark}")
        return namespace.start(self._run_dir, self._cluster.networks, cache=self._cache, store=holder.root,
                               keep=[holder.fileno()])

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """It sees the run folder, and the store."""
        remark = require_fit(self._run_dir / "disks", disks)
        if remark:
            events.note(f"{self._cluster.name}: {remark}")

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        for name in machines:
            for left in (self._run_dir / "disks" / f"{name}.qcow2", self._run_dir / "saved" / name):
                left.unlink(missing_ok=True)

    def check(self, home: Home) -> None:
        pass  # what a cluster has is its own, and goes with it

    def capacity(self, accelerator: Accelerator) -> Capacity:
        largest = max(self._cluster.machines, key=lambda machine: machine.memory_mib)
        return Capacity(len(os.sched_getaffinity(0)), accelerator, self._cluster.head.cpus,
                        memory.room(largest, accelerator))

    def require_memory(self, accelerator: Accelerator, machines: Sequence[Machine]) -> None:
        told = memory.require(machines, accelerator)
        if told:
            events.note(f"{self._cluster.name}: {told}")

    def stop(self) -> None:
        namespace.stop(self._run_dir)

    def lease(self) -> AbstractContextManager[None]:
        return namespace.lease(self._run_dir)

    def explained(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()  # its libvirt writes there itself

    @contextlib.contextmanager
    def consoles(self, home: Home, names: Sequence[str], failed: Failed) -> Iterator[None]:
        yield  # QEMU writes them there itself


def of(host: Host, cluster: Cluster, run_dir: Path, engine: Engine) -> Container:
    """The cluster's place on that host."""
    if host.connection == "private":
        return Private(cluster, run_dir, engine.artifacts / "cache")
    from pipeline.xenhost.container import XenContainer
    from pipeline.xenhost.testbed import Testbed

    return XenContainer(cluster, run_dir, host.connection,
                        Testbed(host, engine) if host.connection == "testbed" else None)


def idle(artifacts: Path) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """The run folders of clusters that do not run, of whichever checkout, and what checkouts that are no more have
    left; and how to remove each, which says whether it is gone."""
    for own in checkout.own_folders(artifacts):
        folders = [folder for folder in sorted((own / "run").glob("[!.]*")) if folder.is_dir()]
        for folder in folders:
            if not _runs(folder):
                yield folder, partial(_remove_idle, folder)
        if checkout.is_lost(own) and not any(map(_runs, folders)):
            yield own, partial(_remove_lost, own)


def _runs(run_dir: Path) -> bool:
    """Whether machines of the cluster may run: in namespaces of its own, in a testbed, or on a host that is not asked.
    """
    if namespace.alive(run_dir):
        return True
    mark = run_dir / "container"
    place = mark.read_text().partition("\n")[2].split() if mark.exists() else []
    return len(place) == 1 or (len(place) == 2 and namespace.is_alive(int(place[0]), int(place[1])))


def _remove_idle(run_dir: Path) -> bool:
    with contextlib.suppress(ClusterError), exclusive(run_dir.parent / f".{run_dir.name}.lock", "busy", hint=""):
        if not _runs(run_dir):
            remove(run_dir)
            return True
    return False


def _remove_lost(own: Path) -> bool:
    if not any(map(_runs, (own / "run").glob("[!.]*"))):
        remove(own)
        return True
    return False


def required(home: Home | None, cluster: str) -> Home:
    """Raise ClusterError unless the cluster has a home."""
    if home is None:
        raise ClusterError(f"{cluster} does not run", hint=f"doit cluster:{cluster}")
    return home
