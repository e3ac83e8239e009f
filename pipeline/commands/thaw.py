"""`doit thaw CLUSTER`: a fresh copy of a frozen cluster, which runs until `doit stop:NAME`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.commands.base import Question, cluster_argument

if TYPE_CHECKING:
    from pipeline.tasks import Graph


@dataclass(frozen=True)
class Woken:
    """A copy that runs: its name, of which cluster it is one, and the seconds that it took."""

    cluster: str
    copy_of: str
    seconds: float

    def text(self) -> str:
        end = f"doit stop:{self.cluster} ends it"
        return f"{self.cluster}: runs, a copy of {self.copy_of}, after {self.seconds:.1f} s; {end}"


class Thaw(Question):
    name = "thaw"
    doc_purpose = "a fresh copy of a frozen cluster, in seconds"
    doc_usage = "CLUSTER [--as NAME] [--same-identity] [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)
        parser.add_argument(
            "--as", dest="copy", metavar="NAME", help="what the copy is called (default: CLUSTER-1 ...)"
        )
        parser.add_argument(
            "--same-identity",
            action="store_true",
            help="it keeps the host keys, machine ids, ssh keys and secrets that were frozen",
        )

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Woken]:
        from pipeline.commands import copies

        started = time.monotonic()
        copy = copies.thaw(graph, args.cluster, args.copy, same_identity=args.same_identity)
        yield Woken(copy.cluster.name, copy.copy_of, round(time.monotonic() - started, 2))
