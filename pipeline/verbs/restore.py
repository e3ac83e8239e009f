"""Bring saved machines back, to go on where they were."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from pipeline.cluster.acting import Acting, Action, Told
from pipeline.errors import UserError
from pipeline.verbs.rows import Clusters, Row, act, machines_argument

PURPOSE = "bring saved machines back, to go on where they were"


def arguments(parser: argparse.ArgumentParser) -> None:
    machines_argument(parser)


def rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    return act(ACTION, clusters, args)


def _do(acting: Acting, names: Sequence[str], _args: argparse.Namespace) -> Iterator[Told]:
    for name in names:
        acting.restore(name)
        yield name, "restored"


ACTION = Action({"saved"}, "only one that is saved can be restored", {"saved"}, _do)
