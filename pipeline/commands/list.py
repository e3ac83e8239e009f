"""`doit list`: doit's own, which also tells what the recipes are warned of."""

from __future__ import annotations

import sys
from typing import Any

from doit.cmd_list import List as DoitList

from pipeline import events
from pipeline.commands.ending import OrderlyDoit


class List(OrderlyDoit, DoitList):
    """Tasks on standard output; warnings on standard error, where no pipe takes them for tasks."""

    name = "list"

    def execute(self, params: Any, args: list[str]) -> int:
        status = int(super().execute(params, args))
        events.subscribe(_show)()
        return status


def _show(event: events.Event) -> None:
    if isinstance(event, events.Warning):
        print(f"warning: {event.text}", file=sys.stderr)
