"""Bring saved machines back, to go on where they were."""

from __future__ import annotations

from pipeline.cluster.acting import Acting, Action
from pipeline.verbs.rows import acting, one_by_one

VERB = acting(
    "bring saved machines back, to go on where they were",
    Action({"saved"}, "only one that is saved can be restored", {"saved"}, one_by_one(Acting.restore, "restored")),
)
