"""Hold machines."""

from __future__ import annotations

from pipeline.cluster.acting import Acting, Action
from pipeline.verbs.rows import acting, one_by_one

VERB = acting(
    "hold machines; time stands still for them",
    Action({"running"}, "only one that is running can be paused", frozenset(), one_by_one(Acting.pause, "paused")),
)
