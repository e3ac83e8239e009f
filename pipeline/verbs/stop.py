"""Ask machines to power off, and end those that do not."""

from __future__ import annotations

from pipeline.cluster.acting import OFF, Action
from pipeline.verbs.rows import acting

VERB = acting(
    "ask machines to power off, and end those that do not; a saved one gives its memory up",
    Action(
        {"running", "paused", "crashed", "saved"},
        "there is nothing to stop",
        {"saved"},
        lambda on, names, args: on.shut_down(names, within=args.within),
    ),
    lambda parser: parser.add_argument(
        "--within",
        type=float,
        default=OFF,
        metavar="SECONDS",
        help="how long each may take, before it is ended (default: %(default)g)",
    ),
)
