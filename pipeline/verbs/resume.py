"""Let paused machines go on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "let paused machines go on"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], _args: argparse.Namespace) -> Iterator[Told]:
    for name in names:
        acting.resume(name)
        yield name, "running"


ACTION = Action({"paused"}, "only one that is paused can be resumed", {"paused"}, _do)
