"""Hold machines; time stands still for them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "hold machines; time stands still for them"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], _args: argparse.Namespace) -> Iterator[Told]:
    for name in names:
        acting.pause(name)
        yield name, "paused"


ACTION = Action({"running"}, "only one that is running can be paused", frozenset(), _do)
