"""A cluster of any number of machines on libvirt's test driver, found as `doit vm` finds clusters."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import libvirt

from pipeline.cluster.machines import Machines
from pipeline.cluster.runner import Runner
from pipeline.columns import Table
from pipeline.description import Cluster, DataDisk, Host
from pipeline.drivers import domain
from pipeline.errors import NotThere, UserError
from pipeline.hosts import datadisks
from pipeline.step import Plan
from pipeline.verbs import verbs
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import Connection, connect
from pipeline.virt.pace import Capacity
from tests.samples import cluster, machine

URI = "test:///default"

_DEFINITION = """<domain type="test"><name>{cluster}-{node}</name><uuid>{uuid}</uuid>
<memory unit="MiB">{memory}</memory><vcpu>{cpus}</vcpu><os><type>hvm</type></os><metadata>
<xo:machine xmlns:xo="urn:xen-oscar:domain:1" cluster="{cluster}" node="{node}" role="{role}" accelerator="tcg">
<xo:artifact role="disk" digest="sha256:1"/></xo:machine></metadata><devices>{disks}</devices></domain>"""
_DISK = """<disk type="file" device="disk"><driver name="qemu" type="{0}"/><source file="/run/xen-oscar/disks/{1}"/>
<target dev="{2}" bus="virtio"/></disk>"""


def sample(name: str, nodes: int, *, memory_mib: int = 384, cpus: int = 2) -> Cluster:
    """A cluster with that many nodes, of which the first has two disks for data."""
    disks = (DataDisk("scratch", 100, "throwaway"), DataDisk("home", 200, "kept"))
    found = [machine(number, memory_mib=memory_mib) for number in range(nodes + 1)]
    head, *others = (dataclasses.replace(one, cpus=cpus) for one in found)
    first = dataclasses.replace(others[0], disks=disks)
    return dataclasses.replace(cluster(name), head=head, nodes=(first, *others[1:]))


class Here:
    """A container that runs, with the test driver for its libvirt."""

    libvirt_uri = URI
    more = ""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.up = True

    def find(self) -> Here | None:
        return self if self.up else None

    def check(self, home: object) -> None:
        pass

    def remove(self, home: object, machines: Sequence[str]) -> None:
        for name in machines:
            datadisks.remove(self.run_dir, name)

    def kept(self) -> list[str]:
        return datadisks.kept(self.run_dir, self.run_dir.name)

    def discard(self, disks: Sequence[str]) -> None:
        datadisks.discard(self.run_dir, self.run_dir.name, disks)

    def capacity(self, found: Found) -> Capacity:
        return Capacity(2, found.accelerator)


class Lab:
    """The clusters that there are: this one."""

    def __init__(self, described: Cluster, folder: Path, connection: Connection) -> None:
        self.cluster = described
        self.folder = folder
        self.connection = connection
        self.here = Here(folder)
        self.host = Host("local", "qemu", "private")
        self.copy_of = ""
        self.lot = 0

    @property
    def run(self) -> Path:
        return self.folder.parent

    @property
    def recipes(self) -> Path:
        return self.folder.parent / "recipes"

    def booted(self) -> list[str]:
        return [self.cluster.name]

    def running(self, name: str) -> Any:
        if name != self.cluster.name:
            raise NotThere(f"there is no cluster {name!r}")
        engine = cast(Any, SimpleNamespace(artifacts=self.run))
        runner = Runner(self.cluster, self.host, self.folder, engine, cast(Any, None), str, "")
        runner.place = cast(Any, self.here)
        return SimpleNamespace(
            cluster=self.cluster,
            host=self.host,
            run_dir=self.folder,
            copy_of=self.copy_of,
            machines=self.machines,
            runner=runner,
        )

    def lifecycle(self, name: str) -> Any:
        return self.running(name)

    @property
    def plan(self) -> Plan:
        return Plan(lots={self.cluster.name: self.lot}, hosts={self.host.name: self.host})

    def machines(self) -> Machines:
        place, watcher = cast(Any, self.here), cast(Any, None)
        return Machines(self.cluster, place, self.folder, contextlib.nullcontext, watcher)

    def raw(self, name: str) -> Any:
        return self.connection.raw.lookupByName(domain.name_of(self.cluster.name, name))

    def vm(self, verb: str, *words: str) -> list[Any]:
        """What `doit vm VERB WORDS` tells, row by row; errors that concern a part as well."""
        parser = argparse.ArgumentParser()
        verbs()[verb].arguments(parser)
        parser.set_defaults(json=True)
        told: list[Any] = []
        for row in verbs()[verb].rows(cast(Any, self), parser.parse_args(list(words))):
            told += row.lines if isinstance(row, Table) else [row]
        assert not [row for row in told if not isinstance(row, UserError) and not json.dumps(dataclasses.asdict(row))]
        return told


def _disks(described: Cluster, node: str) -> str:
    found = []
    for name, letter in described.machine(node).letters.items():
        file = f"{node}.qcow2" if name == "root" else f"{name}.img" if node == "head" else f"{node}.{name}.img"
        found.append(_DISK.format("qcow2" if name == "root" else "raw", file, f"vd{letter}"))
    return "".join(found)


@contextlib.contextmanager
def lab(described: Cluster, folder: Path) -> Iterator[Lab]:
    """With all its machines running."""
    with connect(URI) as connection:
        for one in described.machines:
            text = _DEFINITION.format(
                cluster=described.name,
                node=one.name,
                uuid=domain.uuid_of(described.name, one.name),
                memory=one.memory_mib,
                cpus=one.cpus,
                role=one.role,
                disks=_disks(described, one.name),
            )
            connection.raw.defineXML(text).create()
        try:
            yield Lab(described, folder, connection)
        finally:  # the driver's state is the process's, not the connection's
            for found in connection.raw.listAllDomains():
                if found.name().startswith(f"{described.name}-"):
                    with contextlib.suppress(libvirt.libvirtError):
                        found.destroy()
                    found.undefine()
