"""`doit console CLUSTER MACHINE`: the machine's serial console; Ctrl-] leaves it."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand, cluster_argument, machine_argument, nearest

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Console(GraphCommand):
    name = "console"
    doc_purpose = "the serial console of a machine of a running cluster"
    doc_usage = "CLUSTER [MACHINE]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        machine_argument(parser)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        lifecycle = graph.running(args.cluster)
        machine = args.machine or lifecycle.cluster.head.name
        names = [item.name for item in lifecycle.cluster.machines]
        if machine not in names:
            raise nearest(machine, names, "machine")
        argv = lifecycle.console_argv(machine)
        if argv is not None:
            os.execvp(argv[0], argv)
        sys.stdout.write(lifecycle.console_text(machine))  # not running: what it wrote last is all there is
        return 0
