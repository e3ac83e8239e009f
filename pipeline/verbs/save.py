"""Write the memory of machines to files where they run, and end them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "write machines' memory to files where they run, and end them"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], _args: argparse.Namespace) -> Iterator[Told]:
    for name in names:
        acting.save(name)
        yield name, "saved"


ACTION = Action({"running", "paused"}, "only one that is running or paused can be saved", frozenset(), _do)
