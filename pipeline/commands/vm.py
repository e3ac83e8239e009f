"""`doit vm VERB ...`: machines of clusters, one by one; each verb is a module of `verbs/`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.commands.base import GraphCommand, answer, json_argument

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Vm(GraphCommand):
    name = "vm"
    doc_purpose = (
        "machines: list, report, set, add, remove, dump, start, stop, reset, pause, resume, save, restore, install"
    )
    doc_usage = "VERB [CLUSTER] [MACHINE ...] [--json]"
    doc_description = None

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        from pipeline.verbs import verbs

        actions = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for name, verb in verbs().items():
            takes = actions.add_parser(name, help=verb.purpose, description=verb.purpose)
            verb.arguments(takes)
            json_argument(takes)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        from pipeline.verbs import verbs

        return answer(verbs()[args.verb].rows(graph, args), as_json=args.json)
