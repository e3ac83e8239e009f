"""`doit try CLUSTER [OPKG ...]`: bring what has changed of OPKGs to a cluster that runs, in place.

With `--watch` it does so whenever something in the recipes is saved, until it is ended.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.commands.base import Done, Question, cluster_argument

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Try(Question):
    name = "try"
    doc_purpose = "try today's change of OPKGs on a cluster that runs, without installing it"
    doc_usage = "CLUSTER [OPKG ...] [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        parser.add_argument(
            "names", nargs="*", metavar="opkg", help="OPKGs of that cluster; without any, all that changed"
        )

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Done]:
        from pipeline.cluster.trying import attempt

        for machine, what in attempt(graph.lifecycle(args.cluster), list(dict.fromkeys(args.names))):
            yield Done(args.cluster, machine, what)
