"""Start machines that are off."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "start machines that are off, and wait until they are ready"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)
    parser.add_argument("--no-wait", action="store_true", help="do not wait until they are ready")


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], args: argparse.Namespace) -> Iterator[Told]:
    return acting.start(names, wait=not args.no_wait)


ACTION = Action({"off"}, "only one that is off can be started", {"off"}, _do)
