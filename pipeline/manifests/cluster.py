"""Clusters: a head node, compute nodes, two networks, and the OPKGs that make a cluster of them.

Everything has a default that suits a small machine, so that a manifest says what is special about its cluster.
Sizes are MiB here and text like "512M" in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.description import Devices
from pipeline.manifests import membership
from pipeline.manifests.fields import Domain, FilePath, Items
from pipeline.manifests.loader import Manifest, Table
from pipeline.manifests.machine import MOST_DATA_DISKS, Compute, Head, MachineTable, OneMachine
from pipeline.manifests.membership import Group, Membership
from pipeline.manifests.network import Networks
from pipeline.manifests.xen import XenTable
from pipeline.mistakes import Faults, Key, did_you_mean, quoted, shown
from pipeline.packages.families import FAMILIES


def _same_names(files: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Files whose names are taken: links stand for what they point at, and folders make no difference."""
    first: dict[str, tuple[int, str]] = {}
    for index, file in enumerate(files):
        place, other = first.setdefault(Path(file).resolve().name, (index, file))
        if place != index:
            yield index, f'"{shown(Path(file))}" has the file name of "{shown(Path(other))}"; expected different ones'


class LocalPackages(Table):
    """Package files under test, installed over those of the distribution."""

    head: Items[FilePath] = ()
    """The package files for the head node: paths from the manifest's folder (absolute once it is read)."""
    compute: Items[FilePath] = ()
    """The package files for compute nodes: paths from the manifest's folder (absolute once it is read)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [
            ((side, index), text)
            for side in ("head", "compute")
            for index, file in enumerate(getattr(self, side))
            if (text := _wrong_package_file(file))
        ]
        faults += [
            ((side, index), text) for side in ("head", "compute") for index, text in _same_names(getattr(self, side))
        ]
        if faults:
            raise Faults(faults)
        return self


class Cluster(Manifest):
    """A virtual cluster: `recipes/clusters/NAME.toml`."""

    extends: str | None = None
    """The name of another cluster that this one is like, but for what stands here."""
    distro: str
    """The name of a distribution (a file in recipes/distros)."""
    kernel_from: str = ""
    """The name of a distribution whose kernel its machines boot, over their own system, with a ramdisk of ours: for one
    whose own kernel is too old for the host; without it, they boot their own."""
    host: str = "local"
    """The name of the host that it runs on (a file in recipes/hosts)."""
    domain: Domain = "oscar.internal"
    """The domain name that host names stand in."""
    opkgs: Items[str] = ()
    """The OPKGs (folders in recipes/opkgs) in the order of their installation; those of class "core" are always in."""
    head: Head = Head()
    """The head node."""
    compute: Compute = Compute()
    """The compute nodes."""
    memberships: dict[str, Membership] = Field(default_factory=dict)
    """Machines that are neither head nor compute nodes, by what they are: login nodes, file servers ..."""
    machines: dict[str, OneMachine] = Field(default_factory=dict)
    """What is special about single machines, by name."""
    networks: Networks = Networks()
    """The networks."""
    packages: LocalPackages = LocalPackages()
    """Package files under test."""
    xen: XenTable = XenTable()
    """How the machines are run on a Xen host; nothing of it counts elsewhere."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = [
            *self._name_faults(),
            *self._room_faults(),
            *membership.faults(self.head.name, self.groups, self.networks.private),
            *self._opkg_faults(),
            *self._machine_faults(),
            *self._mac_faults(),
            *self._xen_faults(),
        ]
        if faults:
            raise Faults(faults)
        return self

    @property
    def groups(self) -> tuple[Group, ...]:
        """The machines that are installed, by membership."""
        return membership.groups(self.compute, self.memberships, self.networks.private)

    def _name_faults(self) -> Iterator[tuple[Key, str]]:
        prefix, name = self.compute.prefix, self.head.name
        if name in ("sis", "identity"):
            yield ("head", "name"), f"{quoted(name)} is the name of a disk of the head node; expected another name"
        if name == "localhost":
            yield ("head", "name"), '"localhost" means each machine itself; expected another name'
        if re.fullmatch(re.escape(prefix) + "[0-9]+", name):
            yield ("head", "name"), f"{quoted(name)} is a compute node's name too; expected another one"
        longest = f"{prefix}{self.compute.count}"
        if len(longest) > 63:
            yield ("compute", "prefix"), f"too long: {quoted(longest)} has {len(longest)} letters; expected at most 63"

    def _room_faults(self) -> Iterator[tuple[Key, str]]:
        private = self.networks.private
        if self.compute.count > private.room:
            yield (
                ("compute", "count"),
                (
                    f"{self.compute.count} nodes don't fit: {private.cidr} has room for "
                    f"{private.room} from {private.first_node_address} on; expected fewer nodes "
                    "or a larger subnet in networks.private.cidr"
                ),
            )

    def disks_beyond(self, devices: Devices) -> Iterator[tuple[Key, str]]:
        """The machines with more disks for data than such devices have places: IDE has four, and what every machine has
        takes some of them."""
        if devices != "pc":
            return
        places: list[tuple[Key, int, MachineTable, list[str]]] = [(("head",), 1, self.head, [self.head.name])]
        for group in self.groups:
            place: Key = ("compute",) if group.membership == "compute" else ("memberships", group.membership)
            places.append((place, 3, group.table, group.names()))
        for place, most, table, names in places:
            if len(table.disks) > most:
                yield (*place, "disks"), f"{len(table.disks)} disks; expected at most {most} beside those of the system"
            for name in names:
                own = self.machines[name].disks if name in self.machines else {}
                if own and len({*table.disks, *own}) > most:
                    yield ("machines", name, "disks"), f"more than {most} disks beside those of the system"

    def _opkg_faults(self) -> Iterator[tuple[Key, str]]:
        for index, name in enumerate(self.opkgs):
            if name in self.opkgs[:index]:
                yield ("opkgs", index), f"{quoted(name)} is there twice; expected each OPKG once"

    def _machine_faults(self) -> Iterator[tuple[Key, str]]:
        tables = {name: group.table for group in self.groups for name in group.names()} if self.machines else {}
        for name in self.machines:
            for text in membership.unknown(name, self.head.name, self.groups):
                yield ("machines", name), text
            table = tables.get(name, self.head)
            count = len({*table.disks, *self.machines[name].disks})
            if count > MOST_DATA_DISKS:
                yield ("machines", name, "disks"), f"{count} disks in all; expected at most {MOST_DATA_DISKS}"

    def _mac_faults(self) -> Iterator[tuple[Key, str]]:
        """MACs that are said never meet those that are given out by number, whatever number comes yet."""
        given: dict[str, str] = {}
        prefixes = {self.networks.public.mac_prefix, self.networks.private.mac_prefix}
        for name, own in self.machines.items():
            key = ("machines", name, "mac")
            if own.mac is None:
                continue
            if name == self.head.name:
                yield (
                    key,
                    "the head node has two cards; expected mac_prefix in [networks.public] and [networks.private]",
                )
            elif own.mac[:8] in prefixes:
                yield (
                    key,
                    f"{quoted(own.mac)} is one that machines get by their number; expected other first three bytes",
                )
            elif own.mac in given:
                yield key, f"{quoted(own.mac)} is that of {given[own.mac]} too; expected another one"
            given.setdefault(own.mac, name)

    def _xen_faults(self) -> Iterator[tuple[Key, str]]:
        for key, text in self.xen.faults(self.head.name, self.groups):
            yield ("xen", *key), text


def _wrong_package_file(path: str) -> str:
    """What is wrong with a package file under test, or ""."""
    file = Path(path)
    family = next((one for one in FAMILIES.values() if one.suffix == file.suffix), None)
    if family is None:
        kinds = " or ".join(one.called for one in FAMILIES.values())
        ends = " or ".join(f'"{one.suffix}"' for one in FAMILIES.values())
        return f"{quoted(file.name)} is no {kinds}; expected a file whose name ends in {ends}"
    try:
        with file.open("rb") as stream:
            if stream.read(len(family.magic)) == family.magic:
                return ""
    except OSError as error:
        folder = file.parent
        others = [entry.name for entry in folder.glob(f"*{family.suffix}")] if folder.is_dir() else []
        return f'"{shown(file)}" cannot be read: {error.strerror}{did_you_mean(file.name, others)}'
    return f'"{shown(file)}" is no {family.called}, whatever its name says'
