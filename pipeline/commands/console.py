"""`doit console CLUSTER MACHINE`: the machine's serial console; Ctrl-] leaves it.

Of a machine that does not run it shows what that wrote last, made fit for a terminal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand, cluster_argument, machine_argument
from pipeline.mistakes import no_such

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.tasks import Graph

#: Bytes that are shown: a whole boot, and more than anybody scrolls back.
_SHOWN = 100_000


class Console(GraphCommand):
    name = "console"
    doc_purpose = "the serial console of a machine of a running cluster"
    doc_usage = "CLUSTER [MACHINE] [--raw]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        machine_argument(parser)
        parser.add_argument(
            "--raw",
            action="store_true",
            help="of a machine that does not run: all that is kept, byte by byte as it was written",
        )

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        lifecycle = graph.running(args.cluster)
        machine = args.machine or lifecycle.cluster.head.name
        names = [item.name for item in lifecycle.cluster.machines]
        if machine not in names:
            raise no_such("machine", machine, names)
        argv = lifecycle.console_argv(machine)
        if argv is not None:
            os.execvp(argv[0], argv)
        log = lifecycle.console_log(machine)
        if args.raw:
            _pour(log)
        else:
            self._show(log)
        return 0

    @staticmethod
    def _show(log: Path) -> None:
        from pipeline.virt import logs

        data, before = logs.last(log, _SHOWN)
        if before:
            print(f"({before} bytes before this are left out; --raw shows all that is kept)")
        print(data.decode("utf-8", "replace").rstrip("\n"))


def _pour(log: Path) -> None:
    """As a terminal shows it that does what it is told; or, better, into a file."""
    from pipeline.virt import logs

    for path in (logs.older(log), log):
        if path.exists():
            with path.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.flush()
