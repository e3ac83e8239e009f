"""A place of the cluster's own: namespaces and a libvirt on this machine, apart from all else that runs here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline import events
from pipeline.description import Cluster, Host, Machine
from pipeline.holding import Holder
from pipeline.hosts import datadisks, memory, namespace
from pipeline.hosts.place import Failed
from pipeline.hosts.shelf import LocalShelf, Shelf
from pipeline.virt.accelerator import Found
from pipeline.virt.disks import Given, require_fit
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity


class PrivatePlace:
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
        return namespace.start(
            self._run_dir, self._cluster.networks, cache=self._cache, store=holder.root, keep=[holder.fileno()]
        )

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """It sees the run folder, and the store."""
        remark = require_fit(self._run_dir / "disks", disks)
        if remark:
            events.note(f"{self._cluster.name}: {remark}")

    def provide(self, home: Home, machine: Machine) -> None:
        datadisks.provide(self._run_dir, self._cluster.name, machine)

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        for name in machines:
            datadisks.remove(self._run_dir, name)
            for left in (self._run_dir / "disks" / f"{name}.qcow2", self._run_dir / "saved" / name):
                left.unlink(missing_ok=True)

    def kept(self) -> Sequence[str]:
        return datadisks.kept(self._run_dir, self._cluster.name)

    def discard(self, disks: Sequence[str]) -> None:
        datadisks.discard(self._run_dir, self._cluster.name, disks)

    def check(self, home: Home) -> None:
        pass  # what a cluster has is its own, and goes with it

    def accelerator(self, here: Callable[[], Found]) -> Found:
        return here()

    def capacity(self, found: Found) -> Capacity:
        largest = max(self._cluster.machines, key=lambda machine: machine.memory_mib)
        return Capacity(
            len(os.sched_getaffinity(0)),
            found.accelerator,
            self._cluster.head.cpus,
            memory.room(largest, found.accelerator),
        )

    def free_mib(self) -> int:
        return memory.available_mib()

    def require_memory(self, found: Found, machines: Sequence[Machine]) -> None:
        told = memory.require(machines, found.accelerator)
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

    def shelf(self, home: Home) -> Shelf:
        return LocalShelf(self._run_dir)


def place(_host: Host, cluster: Cluster, run_dir: Path, artifacts: Path) -> PrivatePlace:
    """That of one cluster; `artifacts` is the folder of all artifacts."""
    return PrivatePlace(cluster, run_dir, cache=artifacts / "cache")
