"""What each machine of a cluster is made of by today's recipes: artifacts, and what it has of its own.

A machine carries the digests of all that when it runs, so what has changed since is seen a machine at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.builders import layout, settings
from pipeline.builders.settings import Settings
from pipeline.description import Cluster, Host, Machine
from pipeline.drivers import engines
from pipeline.drivers.domain import Purpose
from pipeline.drivers.driver import Driver
from pipeline.engine import Engine
from pipeline.guests import flavours
from pipeline.opkgs import names
from pipeline.step import Made
from pipeline.virt import disks
from pipeline.virt.disks import Given

if TYPE_CHECKING:
    from pipeline.identity import Identity


class Composition:
    """One cluster's; `made` are its artifacts' tasks."""

    def __init__(self, cluster: Cluster, host: Host, made: Made, engine: Engine) -> None:
        self.cluster = cluster
        self.host = host
        self.made = made
        self.engine = engine
        self.netboot = made.netboot

    def tasks(self) -> Iterable[str]:
        """All artifacts, as tasks."""
        return self.made.parts().values()

    def identity(self) -> Identity:
        """The cluster's secrets and keys; made on first use."""
        from pipeline.identity import Identity  # as rarely wanted as it is slow to import

        return Identity.of(self.engine.own, self.cluster)

    def marks(self, machine: str) -> dict[str, str]:
        """Role -> digest of all that a machine is made of; artifacts that are not there are left out."""
        entries = {role: self.engine.keys.entry(task) for role, task in self.made.parts_of(machine).items()}
        found = {role: entry.digest for role, entry in entries.items() if entry is not None}
        return {**found, "settings": self._settings_digest(self.cluster.machine(machine))}

    def definition(self, machine: str, purpose: Purpose) -> str:
        """How libvirt is told of a machine that is started for this."""
        return (self.engine.entry(self.made.definitions[machine]).path / f"{purpose}.xml").read_text()

    def names(self) -> Mapping[str, str]:
        """What all machines get to know of the cluster: files by path."""
        return names.files(self.cluster)

    def settings(self) -> dict[str, Settings]:
        """What each compute node gets when it is installed; the head node's are on its disk."""
        return {node.name: self._settings(node) for node in self.cluster.nodes}

    def disks(self, machines: Sequence[Machine], folder: Path) -> list[Given]:
        """Fresh overlays over machines' disks, in a folder."""
        return [self._disk(machine, folder) for machine in machines]

    def given(self, folder: Path) -> list[Given]:
        """The SIS image, for the head node, and what it gets for itself and the nodes: names, settings, identities."""
        file = folder / "identity.img"
        self.identity().write_archive(file, self.names(), self.settings())
        return [self._image(folder), Given("identity", file, file, "", readonly=True)]

    def _disk(self, machine: Machine, folder: Path) -> Given:
        entry = self.engine.entry(self.made.disks[machine.name])
        base, overlay = disks.of(entry.path, "disk"), folder / f"{machine.name}.qcow2"
        disks.overlay(base, overlay)
        device = machine.device if self._driver.takes_devices else ""
        below = entry.part(disks.below(base).name)
        return Given(machine.name, overlay, base, below, device=device, format="qcow2")

    def _image(self, folder: Path) -> Given:
        entry = self.engine.entry(self.made.image)
        base, overlay = disks.of(entry.path, "sis"), folder / "sis.qcow2"
        disks.overlay(base, overlay)
        below = entry.part(disks.below(base).name)
        return Given("sis", overlay, base, below, readonly=True, format="qcow2")

    def kernels(self) -> Mapping[str, Path]:
        """What an engine loads itself, by the name that definitions know: installers, and kernels from outside."""
        found: dict[str, Path] = {}
        if not self._driver.netboots:
            netboot = self.engine.entry(self.made.netboot).path
            found |= {"netboot-kernel": netboot / "kernel", "netboot-initrd.img": netboot / "initrd.img"}
        if self.made.kernel:
            outside = self.engine.entry(self.made.kernel).path
            found |= {"kernel": outside / "kernel", "initrd.img": outside / "initrd.img"}
        return found

    @property
    def _driver(self) -> Driver:
        return engines.of(self.host.hypervisor)

    def _settings(self, machine: Machine) -> Settings:
        networks = flavours.of(self.cluster.guest).networks(self.cluster, machine)
        return settings.of(machine, layout.of(machine), networks)

    def _settings_digest(self, machine: Machine) -> str:
        its = self._settings(machine)
        # and which disk it is that holds all this
        text = json.dumps([dict(its.files), dict(its.links), machine.device], sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
