"""Which machines there are, of one cluster or of all that run, or which disks these have."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.records import Notes
from pipeline.columns import Line, Table
from pipeline.description import Machine
from pipeline.drivers.site import RUN
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, Verb
from pipeline.virt.hardware import Block
from pipeline.virt.power import State


@dataclass(frozen=True)
class Listed:
    """One machine: what it has now, its MACs in the order of its cards, what it does when it starts next; `why` it is
    paused, where nobody has paused it."""

    cluster: str
    machine: str
    state: State
    hypervisor: str
    host: str
    memory_mib: int
    cpus: int
    macs: tuple[str, ...]
    next_boot: Literal["os", "install"]
    why: str

    def cells(self) -> Sequence[str]:
        again = "to be installed anew" if self.next_boot == "install" else ""
        told = [text for text in (self.why, again) if text]
        return (
            self.cluster,
            self.machine,
            self.state,
            f"{self.hypervisor}/{self.host}",
            f"{self.memory_mib} MiB",
            f"{self.cpus} cpu",
            " ".join(self.macs),
            f"({'; '.join(told)})" if told else "",
        )


@dataclass(frozen=True)
class ListedDisk:
    """One disk of a machine.  `file` is where it lies: on this machine, or on the host; `size_mib` 0 = unknown.

    `kind`: what the system is on ("system"), the image of nodes' systems ("image") and what else a head node is given
    ("identity"), or "data".  `overlay`: it holds what differs from an artifact.  What is on one that is `kept` outlives
    its cluster.
    """

    cluster: str
    machine: str
    disk: str
    file: str
    format: str
    size_mib: int
    kind: Literal["system", "image", "identity", "data"]
    overlay: bool
    kept: bool

    def cells(self) -> Sequence[str]:
        what = [self.kind, *(["overlay"] if self.overlay else []), "kept" if self.kept else "throwaway"]
        size = f"{self.size_mib} MiB" if self.size_mib else ""
        return self.cluster, self.machine, self.disk, self.file, self.format, size, ", ".join(what)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", nargs="?", help="without it, all clusters that run")
    parser.add_argument(
        "--disks", action="store_true", help="their disks: where, format, size, what is on it, kept or not"
    )


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | Table | UserError]:
    """A cluster whose VM container does not answer must not hide the others."""
    failed = False
    found: list[Line] = []
    for name in [args.cluster] if args.cluster else clusters.booted():
        try:
            life = clusters.running(name)
            if args.cluster or life.machines().runs():
                found += _disks(life) if args.disks else _machines(life)
        except UserError as error:
            if args.cluster:
                raise
            failed = True
            yield error
    if found:
        yield Table(tuple(found))
    elif not failed and not args.json:  # an empty array says that to programs
        print("no cluster runs")


def _machines(life: Lifecycle) -> Iterator[Listed]:
    host, cluster, notes = life.host, life.cluster, Notes(life.run_dir)
    for line in life.machines().lines():
        yield Listed(
            cluster.name,
            line.machine,
            line.state,
            host.hypervisor,
            host.name,
            line.has_mib,
            line.cpus,
            tuple(card.mac for card in cluster.machine(line.machine).interfaces),
            "install" if notes.has(f"again/{line.machine}") else "os",
            line.why,
        )


def _disks(life: Lifecycle) -> Iterator[ListedDisk]:
    for name, blocks in life.machines().disks().items():
        machine = life.cluster.machine(name)
        for block in blocks:
            yield _disk(life.cluster.name, machine, block, life.run_dir)


def _disk(cluster: str, machine: Machine, block: Block, run_dir: Path) -> ListedDisk:
    name = {letter: disk for disk, letter in machine.letters.items()}.get(block.target[-1:], block.target)
    data = {disk.name: disk for disk in machine.disks}
    kind: Literal["system", "image", "identity", "data"]
    if name in data:
        kind, kept, size = "data", data[name].kind == "kept", data[name].size_mib
    elif name == "sis":
        kind, kept, size = "image", False, 0
    elif name == "identity":
        kind, kept, size = "identity", False, 0
    else:
        kind, kept, size = "system", bool(machine.device), machine.disk_mib
    # where a cluster has namespaces of its own, that is its run folder
    file = str(run_dir / block.source.removeprefix(f"{RUN}/")) if block.source.startswith(f"{RUN}/") else block.source
    return ListedDisk(
        cluster, machine.name, name, file, block.format, block.size_mib or size, kind, block.format == "qcow2", kept
    )


VERB = Verb("machines: state, VM container, memory, cpus, MACs; or their disks", _arguments, _rows)
