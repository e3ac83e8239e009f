"""`doit try CLUSTER [OPKG ...]`: bring what has changed of OPKGs to a cluster that runs, in place.

With `--watch` it does so once more whenever something in the recipes was saved, until it is ended; what fails is told,
and the next change may mend it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.base import Done, Question, answer, cluster_argument
from pipeline.errors import NotThere, UserError

if TYPE_CHECKING:
    from pipeline.tasks import Graph


class Try(Question):
    name = "try"
    doc_purpose = "try today's change of OPKGs on a cluster that runs, without installing it"
    doc_usage = "CLUSTER [OPKG ...] [--watch] [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        parser.add_argument(
            "names", nargs="*", metavar="opkg", help="OPKGs of that cluster; without any, all that changed"
        )
        parser.add_argument("--watch", action="store_true", help="and once more whenever something was saved")

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Done]:
        from pipeline.cluster.trying import attempt

        for machine, what in attempt(graph.lifecycle(args.cluster), list(dict.fromkeys(args.names))):
            yield Done(args.cluster, machine, what)

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        if not args.watch:
            return super().main(graph, args)
        from pipeline.commands.saved import Saved

        elsewhere = [path.resolve() for path in graph.recipes.glob("opkgs/*") if path.is_symlink()]
        with Saved(graph.recipes, *elsewhere) as saved:
            while True:
                self._once(graph, args)
                print(f"{args.cluster}: waiting until something is saved; Ctrl-C ends it", file=sys.stderr, flush=True)
                saved.wait()
                graph = self._anew(graph)

    def _once(self, graph: Graph, args: argparse.Namespace) -> None:
        try:
            answer(self.rows(graph, args), as_json=args.json)
        except NotThere:
            raise  # no change of a file mends a word that was typed
        except UserError as error:
            self.tell(error)

    @staticmethod
    def _anew(graph: Graph) -> Graph:
        """The plan by today's recipes; what was held for the one before is let go of."""
        from pipeline.tasks import Graph

        graph.engine.store.let_go()
        return Graph(Path.cwd())
