"""`doit inspect CLUSTER MACHINE`: what is on a disk, also of a node that failed to boot."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand, cluster_argument, machine_argument, nearest
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Inspect(GraphCommand):
    name = "inspect"
    doc_purpose = "show layout, file systems, packages and logs of a machine's disk"
    doc_usage = "CLUSTER [MACHINE] [--packages]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        machine_argument(parser)
        parser.add_argument("--packages", action="store_true", help="list all packages, not only their number")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline import appliance

        lifecycle = graph.running(args.cluster)
        cluster, host = lifecycle.cluster, lifecycle.host
        name = args.machine or cluster.head.name
        if name not in [machine.name for machine in cluster.machines]:
            raise nearest(name, [machine.name for machine in cluster.machines], "machine")
        if "://" in host.connection:
            raise UserError(f"{name} has its disk on {host.name}, and only disks on this machine are looked into",
                            hint=f"doit ssh {cluster.name} {name}, or doit console {cluster.name} {name}")
        disk, format = lifecycle.run_dir / "disks" / f"{name}.qcow2", "qcow2"
        if not disk.exists():
            entry = graph.engine.store.linked(f"disk:{cluster.name}/{name}")
            if entry is None:
                raise UserError(f"{name} has no disk yet", hint=f"doit disk:{cluster.name}/{name}")
            disk, format = entry.path / "disk.img", "raw"
        print(f"{name}: {disk}\n(starting the libguestfs appliance, this takes a while under emulation)", flush=True)
        found = appliance.inspect(disk, format)
        print(f"partition table: {found.partition_table}")
        for volume in found.volumes:
            print(f"  {volume.device:<12} {volume.type:<8} {volume.size / (1 << 20):>8.0f} MiB  "
                  f"{volume.label or '-':<10} {volume.uuid}")
        if not found.system:
            print("no operating system was found on it")
            return 0
        print(f"system: {found.system}, host name {found.host_name or '(none)'}, {len(found.packages)} packages")
        for place, device in found.mounts:
            print(f"  {place:<12} {device}")
        if args.packages:
            for package, version in found.packages:
                print(f"  {package} {version}")
        for title, text in (*found.configuration, *found.logs):
            print(f"--- {title}")
            print("\n".join(text.splitlines()[-60:]))
        return 0
