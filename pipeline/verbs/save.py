"""Write the memory of machines to files where they run, and end them."""

from __future__ import annotations

from pipeline.cluster.acting import Acting, Action
from pipeline.verbs.rows import acting, one_by_one

VERB = acting(
    "write machines' memory to files where they run, and end them",
    Action(
        {"running", "paused"},
        "only one that is running or paused can be saved",
        frozenset(),
        one_by_one(Acting.save, "saved"),
    ),
)
