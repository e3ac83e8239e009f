"""Start machines anew without asking them."""

from __future__ import annotations

from pipeline.cluster.acting import Acting, Action
from pipeline.verbs.rows import acting, one_by_one

VERB = acting(
    "pull machines' reset line: they start anew without being asked, from their disks",
    Action({"running"}, "only one that is running can be reset", frozenset(), one_by_one(Acting.reset, "reset")),
)
