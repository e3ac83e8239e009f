"""`doit vm ACTION CLUSTER [MACHINE ...]`: machines of running clusters, one by one, whatever their hypervisor."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pipeline import events
from pipeline.commands.base import GraphCommand, cluster_argument, nearest
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph

_ACTIONS = {
    "start": "start machines that are off, and wait until they are ready",
    "stop": "ask machines to power off, and end those that do not; a saved one gives its memory up",
    "pause": "hold machines; time stands still for them",
    "resume": "let paused machines go on",
    "save": "write machines' memory to files where they run, and end them",
    "restore": "bring saved machines back, to go on where they were",
}


class Vm(GraphCommand):
    name = "vm"
    doc_purpose = "list, start, stop, pause, resume, save, restore machines of running clusters"
    doc_usage = "list [CLUSTER] | start|stop|pause|resume|save|restore CLUSTER [MACHINE ...]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
        listing = actions.add_parser("list", help="machines with their state, VM container, memory and cpus")
        listing.add_argument("cluster", nargs="?", help="without it, all clusters that run")
        for name, words in _ACTIONS.items():
            action = actions.add_parser(name, help=words, description=words)
            cluster_argument(action)
            action.add_argument("machines", nargs="*", metavar="machine",
                                help="without any, all for which it makes sense")
            if name == "start":
                action.add_argument("--no-wait", action="store_true", help="do not wait until they are ready")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        if args.action == "list":
            return self._list(graph, args.cluster)
        lifecycle = graph.running(args.cluster)
        names = [machine.name for machine in lifecycle.cluster.machines]
        for name in args.machines:
            if name not in names:
                raise nearest(name, names, "machine")
        unsubscribe = events.subscribe(_tell)
        try:
            lifecycle.machines().act(args.action, args.machines, lambda machine, words: print(f"{machine}: {words}"),
                                     wait=not getattr(args, "no_wait", False))
        finally:
            unsubscribe()
        return 0

    def _list(self, graph: Graph, cluster: str | None) -> int:
        """A cluster whose VM container does not answer must not hide the others."""
        status, found = 0, []
        for name in [cluster] if cluster else graph.booted():
            try:
                life = graph.running(name)
                machines, host = life.machines(), life.host
                if cluster or machines.runs():
                    found += [(name, line, f"{host.hypervisor}/{host.name}") for line in machines.lines()]
            except UserError as error:
                if cluster:
                    raise
                print(error.render(), file=sys.stderr)
                status = 1
        widths = [max((len(row[0]) for row in found), default=0), max((len(row[2]) for row in found), default=0)]
        for name, line, where in found:
            print(f"{name:<{widths[0]}}  {line.machine:<10}  {line.state:<8}  {where:<{widths[1]}}  "
                  f"{line.memory_mib} MiB  {line.cpus} cpu{f'  ({line.why})' if line.why else ''}")
        if not found and not status:
            print("no cluster runs")
        return status


def _tell(event: events.Event) -> None:
    """While one waits for machines: where they are."""
    if isinstance(event, events.Phase):
        print(f"{event.machine}: {event.phase} {event.detail}".rstrip(), file=sys.stderr)
