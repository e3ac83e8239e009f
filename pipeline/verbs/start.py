"""Start machines that are off."""

from __future__ import annotations

from pipeline.cluster.acting import Action
from pipeline.verbs.rows import acting

VERB = acting(
    "start machines that are off, and wait until they are ready",
    Action(
        {"off"},
        "only one that is off can be started",
        {"off"},
        lambda on, names, args: on.start(names, wait=not args.no_wait),
    ),
    lambda parser: parser.add_argument("--no-wait", action="store_true", help="do not wait until they are ready"),
)
