"""`doit freeze CLUSTER`: keep a verified cluster as it is, for copies that `doit thaw` wakes in seconds."""

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
class Became:
    """What became of it: the bytes that it takes, and the seconds that it took."""

    cluster: str
    bytes: int
    seconds: float

    def text(self) -> str:
        from pipeline.cluster import freezing

        return freezing.told(self.cluster, self.bytes, self.seconds)


class Freeze(Question):
    name = "freeze"
    doc_purpose = "keep a verified cluster as it is, for copies in seconds"
    doc_usage = "CLUSTER [--json]"
    doc_description = None

    def asks(self, parser: argparse.ArgumentParser) -> None:
        cluster_argument(parser)

    def rows(self, graph: Graph, args: argparse.Namespace) -> Iterator[Became]:
        from pipeline.cluster import freezing

        started = time.monotonic()
        cold = freezing.freeze(graph.lifecycle(args.cluster))
        yield Became(args.cluster, cold.taken, round(time.monotonic() - started, 2))
