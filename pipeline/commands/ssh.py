"""`doit ssh CLUSTER [MACHINE] [-- COMMAND ...]`: a shell on a machine, or one command."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand, cluster_argument, machine_argument
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Ssh(GraphCommand):
    name = "ssh"
    doc_purpose = "a shell on a machine of a running cluster, or one command"
    doc_usage = "CLUSTER [MACHINE] [-- COMMAND ...]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        machine_argument(parser)
        parser.add_argument("command", nargs="*", help="after --: what to run instead of a shell")

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        lifecycle = graph.running(args.cluster)
        names = [machine.name for machine in lifecycle.cluster.machines]
        machine, command = args.machine or lifecycle.cluster.head.name, args.command
        if machine not in names:
            after_dashes = "--" in sys.argv and sys.argv.index(machine) > sys.argv.index("--")
            if not after_dashes:
                raise no_such("machine", machine, names)
            machine, command = lifecycle.cluster.head.name, [machine, *command]
        argv = lifecycle.shell().argv(machine, " ".join(command), tty=sys.stdin.isatty())
        os.execvp(argv[0], argv)
