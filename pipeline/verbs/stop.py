"""Ask machines to power off, and end those that do not."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import OFF, Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "ask machines to power off, and end those that do not; a saved one gives its memory up"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)
    parser.add_argument("--within", type=float, default=OFF, metavar="SECONDS",
                        help="how long each may take, before it is ended (default: %(default)g)")


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], args: argparse.Namespace) -> Iterator[Told]:
    return acting.shut_down(names, within=args.within)


ACTION = Action({"running", "paused", "crashed", "saved"}, "there is nothing to stop", {"saved"}, _do)
