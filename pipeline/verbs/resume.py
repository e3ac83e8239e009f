"""Let paused machines go on."""

from __future__ import annotations

from pipeline.cluster.acting import Acting, Action
from pipeline.verbs.rows import acting, one_by_one

VERB = acting(
    "let paused machines go on",
    Action({"paused"}, "only one that is paused can be resumed", {"paused"}, one_by_one(Acting.resume, "running")),
)
