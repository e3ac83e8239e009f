"""Install nodes anew."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from pipeline import consent
from pipeline.errors import UserError, WrongUse
from pipeline.mistakes import no_such
from pipeline.verbs import names
from pipeline.verbs.rows import Became, Clusters, Row, Verb, telling


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument("machines", nargs="*", metavar="machine", help="names or patterns, as node[1-3,7] or 'node*'")
    parser.add_argument("--yes", action="store_true", help="give up the memory of saved ones without being asked")
    parser.add_argument("--membership", metavar="NAME", help="all nodes of that membership, as compute")


def _rows(clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    from pipeline.cluster.reinstalling import reinstall

    life = clusters.lifecycle(args.cluster)
    meant = names.expand(args.machines, [machine.name for machine in life.cluster.machines])
    if args.membership:
        if args.membership not in life.cluster.members:
            raise no_such(f"membership of {args.cluster}", args.membership, list(life.cluster.members))
        meant += [node.name for node in life.cluster.nodes if node.membership == args.membership]
    if not meant:  # what is on their disks goes: nobody means all of them by saying nothing
        raise WrongUse("which machines?", hint=f"doit vm install {args.cluster} MACHINE ..., or --membership compute")
    with telling(), consent.answered(args.yes):
        for machine, result in reinstall(life, list(dict.fromkeys(meant))):
            yield Became(args.cluster, machine, result)


VERB = Verb("install nodes anew over the network, on empty disks, and start them", _arguments, _rows)
