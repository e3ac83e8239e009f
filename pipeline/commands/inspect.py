"""`doit inspect CLUSTER MACHINE`: what is on a disk, also of a node that failed to boot."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline import foreign, naming
from pipeline.commands.base import GraphCommand, cluster_argument, json_argument, machine_argument
from pipeline.errors import UserError
from pipeline.hosts import kinds
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.appliance import Inspection
    from pipeline.tasks import Graph

#: Lines of each file.
_LAST = 60


class Inspect(GraphCommand):
    name = "inspect"
    doc_purpose = "show layout, file systems, packages and logs of a machine's disk"
    doc_usage = "CLUSTER [MACHINE] [--packages] [--json]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        machine_argument(parser)
        parser.add_argument("--packages", action="store_true", help="list all packages, not only their number")
        json_argument(parser)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline import appliance
        from pipeline.virt import disks

        lifecycle = graph.running(args.cluster)
        cluster, host = lifecycle.cluster, lifecycle.host
        name = args.machine or cluster.head.name
        if name not in [machine.name for machine in cluster.machines]:
            raise no_such("machine", name, [machine.name for machine in cluster.machines])
        if not kinds.of(host.connection).disks_are_here:
            raise UserError(
                f"{name} has its disk on {host.name}, and only disks on this machine are looked into",
                hint=f"doit ssh {cluster.name} {name}, or doit console {cluster.name} {name}",
            )
        disk, format = lifecycle.run_dir / "disks" / f"{name}.qcow2", "qcow2"
        if not disk.exists():
            task = naming.disk(cluster.name, name)
            entry = graph.engine.store.linked(task)
            if entry is None:
                raise UserError(f"{name} has no disk yet", hint=f"doit {task}")
            disk = disks.of(entry.path, "disk")
            format = disks.format_of(disk)
        told = sys.stderr if args.json else sys.stdout
        print(
            f"{name}: {disk}\n(starting the libguestfs appliance, this takes a while under emulation)",
            file=told,
            flush=True,
        )
        if lifecycle.states().get(name, "off") != "off":
            print(
                f"({name} is running or paused: its disk changes meanwhile, or lacks what is still in its memory, so "
                "what is read may not fit together)",
                file=told,
                flush=True,
            )
        frozen = disks.frozen_below(disk)
        found = appliance.inspect(
            disk,
            format,
            cache=graph.engine.artifacts / "cache" / "guestfs",
            below=graph.engine.store.root,
            frozen=frozen if frozen.exists() else None,
        )
        if args.json:
            print(json.dumps(dataclasses.asdict(found), indent=1))
            return 0
        for line in describe(found, packages=args.packages):
            print(line)
        return 0


def describe(found: Inspection, *, packages: bool) -> Iterator[str]:
    """What was found on a disk, as lines that are only what they seem: whoever wrote the disk is not believed."""
    yield f"partition table: {foreign.line(found.partition_table)}"
    for volume in found.volumes:
        device, kind, label, uuid = map(foreign.line, (volume.device, volume.type, volume.label or "-", volume.uuid))
        yield f"  {device:<12} {kind:<8} {volume.size / (1 << 20):>8.0f} MiB  {label:<10} {uuid}"
    if not found.system:
        yield "no operating system was found on it"
        return
    yield (
        f"system: {foreign.line(found.system)}, host name {foreign.line(found.host_name or '(none)')}, "
        f"{len(found.packages)} packages"
    )
    for place, source in found.mounts:
        yield f"  {foreign.line(place):<12} {foreign.line(source)}"
    for package, version in found.packages if packages else ():
        yield f"  {foreign.line(package)} {foreign.line(version)}"
    for title, text in (*found.configuration, *found.logs):
        yield f"--- {title}"
        yield foreign.last_lines(text, _LAST)
