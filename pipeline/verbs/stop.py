"""Ask machines to power off, and end those that do not; or end them without asking."""

from __future__ import annotations

import argparse

from pipeline.cluster.acting import OFF, Action
from pipeline.verbs.rows import acting


def _options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--within",
        type=seconds,
        default=OFF,
        metavar="SECONDS",
        help="how long each may take, before it is ended (default: %(default)g)",
    )
    how.add_argument("--force", action="store_true", help="pull the plug: they are not asked, and may lose data")


def seconds(text: str) -> float:
    found = float(text)
    if not 0 <= found <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds up to a day")
    return found


VERB = acting(
    "ask machines to power off, and end those that do not; a saved one gives its memory up",
    Action(
        {"running", "paused", "crashed", "saved"},
        "there is nothing to stop",
        {"saved"},
        lambda on, names, args: on.pull(names) if args.force else on.shut_down(names, within=args.within),
    ),
    _options,
)
