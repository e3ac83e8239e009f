"""A live picture on a terminal."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from pipeline import foreign
from pipeline.figures import duration
from pipeline.views.lines import amount, failure_lines, finished_line, summary_lines
from pipeline.views.view import Activity, Failure, Finished, MachineState, Summary

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live


class TerminalView:
    """A picture of what runs, redrawn a few times a second below the lines of what has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live: Live | None = None
        self._console: Console | None = None
        self._activities: dict[str, Activity] = {}
        self._so_far: Summary | None = None

    def _print(self, text: str, style: str = "") -> None:
        text = foreign.clean(text)
        if self._console is None:  # nothing has run yet, so rich is not needed yet
            self._stream.write(text + "\n")
        else:
            self._console.print(text, style=style or None, markup=False, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        self._print(text)

    def warning(self, text: str) -> None:
        self._print(f"warning: {text}", "yellow")

    def started(self, activity: Activity, summary: Summary) -> None:
        self._activities[activity.task] = activity
        self._so_far = summary
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._console = Console(file=self._stream, force_terminal=True, emoji=False)  # `:b:` is a name
            self._live = Live(
                console=self._console,
                get_renderable=self._picture,
                refresh_per_second=5,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def reason(self, activity: Activity) -> None:
        """Part of the picture."""

    def progress(self, activity: Activity) -> None:
        """Part of the picture."""

    def phase(self, activity: Activity, machine: MachineState) -> None:
        """Part of the picture."""

    def finished(self, activity: Activity, finished: Finished, summary: Summary) -> None:
        self._activities.pop(finished.task, None)
        self._so_far = summary
        if finished.result != "reused":
            reason = f"  ({activity.reason})" if activity.reason else ""
            self._print(finished_line(finished) + reason, "green")

    def failed(self, failure: Failure, summary: Summary) -> None:
        self._activities.pop(failure.task, None)
        self._so_far = summary
        head, *rest = failure_lines(failure)
        self._print(head, "bold red")
        self._print("\n".join(rest))

    def hold(self, question: str) -> bool:
        if self._live is not None:
            self._live.stop()
        self._stream.write(question)
        self._stream.flush()
        return True

    def go_on(self) -> None:
        if self._live is not None:
            self._live.start()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def summary(self, summary: Summary) -> None:
        *table, total = summary_lines(summary)
        if table:
            self._print("\n".join(table))
        self._print(total, "bold red" if summary.failed else "bold green")

    def _picture(self) -> RenderableType:
        """What runs, one line a task and one a machine; called from rich's own thread."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2))
        for _ in range(4):
            grid.add_column(no_wrap=True, overflow="ellipsis")
        room = max(3, shutil.get_terminal_size().lines - 3)
        rows = [row for activity in list(self._activities.values()) for row in _rows(activity)]
        for name, seconds, amount_, what in rows[:room]:
            grid.add_row(
                Text(name, "cyan" if name[:1] != " " else ""), Text(seconds, "dim"), Text(amount_), Text(what, "dim")
            )
        more = [f"{len(rows) - room} more lines"] if len(rows) > room else []
        if self._so_far is not None:
            more += [f"{len(self._so_far.finished)} done, {self._so_far.reused} reused"]
        return Group(grid, Text("; ".join(more), "dim"))


def _rows(activity: Activity) -> Iterator[tuple[str, str, str, str]]:
    """The lines of one task in the live picture: name, time, amount, and why or in which phase."""
    yield activity.task, duration(activity.seconds), amount(activity), activity.reason
    for machine in list(activity.machines.values()):
        yield f"  {machine.name}", duration(time.monotonic() - machine.since), machine.phase, machine.detail
