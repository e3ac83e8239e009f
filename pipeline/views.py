"""How a run looks: a live picture on a terminal, plain lines, or JSON.

A view keeps no record of the run; it is handed what changed and draws it.  Finished tasks stay on the screen as lines,
what was reused is counted and not listed.  Events and errors come clean; what doit itself has to say is cleaned here.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from pipeline import foreign
from pipeline.errors import UserError
from pipeline.events import Result

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

#: How often a plain log repeats the progress of one task, in seconds.
_PLAIN_INTERVAL = 30
#: The shortest time between two progress events of one task in JSON, in seconds.
_JSON_INTERVAL = 0.2


@dataclass
class MachineState:
    """Where one machine stands, and since when."""

    name: str
    phase: str
    detail: str
    since: float
    is_new_phase: bool


@dataclass
class Activity:
    """A task that runs."""

    task: str
    reason: str = ""
    since: float = field(default_factory=time.monotonic)
    done: int = 0
    total: int = 0
    unit: str = ""
    machines: dict[str, MachineState] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.since

    def enter(self, machine: str, phase: str, detail: str) -> MachineState:
        """Note that a machine has come to a phase; only a new phase restarts its clock."""
        before = self.machines.get(machine)
        same = before is not None and before.phase == phase
        since = before.since if before is not None and same else time.monotonic()
        self.machines[machine] = state = MachineState(machine, phase, detail, since, not same)
        return state


@dataclass(frozen=True)
class Finished:
    """A task that ended well."""

    task: str
    result: Result
    seconds: float
    size_bytes: int


@dataclass(frozen=True)
class Failure:
    """A task that did not.  `skipped`: never tried, because one that it needs failed."""

    task: str
    seconds: float
    kind: Literal["error", "bug", "skipped"]
    error: UserError


@dataclass(frozen=True)
class Summary:
    """The run as a whole, so far."""

    finished: tuple[Finished, ...]
    reused: int
    failed: tuple[Failure, ...]
    seconds: float


class View(Protocol):
    """What `Reporter` tells, always under its lock."""

    def note(self, text: str) -> None: ...

    def warning(self, text: str) -> None: ...

    def started(self, activity: Activity, summary: Summary) -> None: ...

    def reason(self, activity: Activity) -> None: ...

    def progress(self, activity: Activity) -> None: ...

    def phase(self, activity: Activity, machine: MachineState) -> None: ...

    def finished(self, activity: Activity, finished: Finished, summary: Summary) -> None: ...

    def failed(self, failure: Failure, summary: Summary) -> None: ...

    def hold(self, question: str) -> bool:
        """Stand still with a question on the screen; False where nobody could answer it."""

    def go_on(self) -> None:
        """It has been answered."""

    def close(self) -> None: ...

    def summary(self, summary: Summary) -> None: ...


class PlainView:
    """Lines for a log: start with the reason, machines' phases, end with time and size.  ASCII only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, float] = {}

    def _write(self, text: str) -> None:
        self._stream.write(foreign.clean(text) + "\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        self._write(text if "\n" in text else f"note: {text}")

    def warning(self, text: str) -> None:
        self._write(f"warning: {text}")

    def started(self, activity: Activity, summary: Summary) -> None:
        self._shown[activity.task] = time.monotonic()

    def reason(self, activity: Activity) -> None:
        self._write(f"{activity.task}: {activity.reason}")

    def progress(self, activity: Activity) -> None:
        now = time.monotonic()
        if now - self._shown.setdefault(activity.task, now) >= _PLAIN_INTERVAL:
            self._shown[activity.task] = now
            self._write(f"{activity.task}: {amount(activity)} after {duration(activity.seconds)}")

    def phase(self, activity: Activity, machine: MachineState) -> None:
        if machine.is_new_phase:
            self._write(f"{activity.task}: {machine.name}: {': '.join(filter(None, (machine.phase, machine.detail)))}")

    def finished(self, activity: Activity, finished: Finished, summary: Summary) -> None:
        if finished.result != "reused" or activity.reason or activity.machines:
            self._write(finished_line(finished))

    def failed(self, failure: Failure, summary: Summary) -> None:
        self._write("\n".join(failure_lines(failure)))

    def hold(self, question: str) -> bool:
        if self._stream.isatty():
            self._stream.write(question)
            self._stream.flush()
        return self._stream.isatty()

    def go_on(self) -> None:
        """Nothing stood still."""

    def close(self) -> None:
        """Nothing is open."""

    def summary(self, summary: Summary) -> None:
        self._write("\n".join(summary_lines(summary)))


class JsonView:
    """One JSON object a line, each with `event` and `time` (seconds since 1970)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, float] = {}

    def _write(self, event: str, **values: Any) -> None:
        write_json(self._stream, event, **values)

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def warning(self, text: str) -> None:
        self._write("warning", text=text)

    def started(self, activity: Activity, summary: Summary) -> None:
        self._write("started", task=activity.task)

    def reason(self, activity: Activity) -> None:
        self._write("reason", task=activity.task, text=activity.reason)

    def progress(self, activity: Activity) -> None:
        now = time.monotonic()
        if activity.done < activity.total and now - self._shown.get(activity.task, 0) < _JSON_INTERVAL:
            return
        self._shown[activity.task] = now
        self._write("progress", task=activity.task, done=activity.done, total=activity.total, unit=activity.unit)

    def phase(self, activity: Activity, machine: MachineState) -> None:
        self._write("phase", task=activity.task, machine=machine.name, phase=machine.phase, detail=machine.detail)

    def finished(self, activity: Activity, finished: Finished, summary: Summary) -> None:
        self._write("finished", task=finished.task, result=finished.result, seconds=round(finished.seconds, 3),
                    size_bytes=finished.size_bytes)

    def failed(self, failure: Failure, summary: Summary) -> None:
        self._write("failed", task=failure.task, kind=failure.kind, seconds=round(failure.seconds, 3),
                    **error_fields(failure.error))

    def hold(self, question: str) -> bool:
        return False

    def go_on(self) -> None:
        """Nothing stood still."""

    def close(self) -> None:
        """Nothing is open."""

    def summary(self, summary: Summary) -> None:
        results = [item.result for item in summary.finished]
        self._write("summary", built=results.count("built"), done=results.count("done"), reused=summary.reused,
                    failed=sum(1 for item in summary.failed if item.kind != "skipped"),
                    seconds=round(summary.seconds, 3))


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
        if self._console is None:   # nothing has run yet, so rich is not needed yet
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

            self._console = Console(file=self._stream, force_terminal=True, emoji=False)   # `:b:` is a name
            self._live = Live(console=self._console, get_renderable=self._picture, refresh_per_second=5,
                              transient=True, redirect_stdout=False, redirect_stderr=False)
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
            grid.add_row(Text(name, "cyan" if name[:1] != " " else ""), Text(seconds, "dim"), Text(amount_),
                         Text(what, "dim"))
        more = [f"{len(rows) - room} more lines"] if len(rows) > room else []
        if self._so_far is not None:
            more += [f"{len(self._so_far.finished)} done, {self._so_far.reused} reused"]
        return Group(grid, Text("; ".join(more), "dim"))


def _rows(activity: Activity) -> Iterator[tuple[str, str, str, str]]:
    """The lines of one task in the live picture: name, time, amount, and why or in which phase."""
    yield activity.task, duration(activity.seconds), amount(activity), activity.reason
    for machine in list(activity.machines.values()):
        yield f"  {machine.name}", duration(time.monotonic() - machine.since), machine.phase, machine.detail


def write_json(stream: TextIO, event: str, **values: Any) -> None:
    """One event as a line, in ASCII: valid whatever the stream's encoding, and harmless on a terminal."""
    stream.write(json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n")
    stream.flush()


def error_fields(error: UserError) -> dict[str, Any]:
    """A user error as JSON has it."""
    return error.told()


def finished_line(finished: Finished) -> str:
    line = f"{finished.task}: {finished.result} in {duration(finished.seconds)}"
    return f"{line}, {size(finished.size_bytes)}" if finished.size_bytes else line


def failure_lines(failure: Failure) -> list[str]:
    if failure.kind == "skipped":
        return [f"{failure.task}: {failure.error.told()['message']}"]
    return [f"{failure.task}: FAILED after {duration(failure.seconds)}", *failure.error.render().splitlines()]


def summary_lines(summary: Summary) -> list[str]:
    """The final table, and one line that says it all."""
    rows = [(item.task, str(item.result), duration(item.seconds), size(item.size_bytes)) for item in summary.finished]
    rows += [(item.task, "not tried" if item.kind == "skipped" else "FAILED", duration(item.seconds), "")
             for item in summary.failed]
    counts = [f"{number} {word}" for word, number in (
        ("built", sum(1 for item in summary.finished if item.result == "built")),
        ("done", sum(1 for item in summary.finished if item.result == "done")),
        ("reused", summary.reused),
        ("failed", sum(1 for item in summary.failed if item.kind != "skipped")),
        ("not tried", sum(1 for item in summary.failed if item.kind == "skipped")),
    ) if number]
    if not rows:
        if not summary.reused:
            return [f"nothing to do ({duration(summary.seconds)})"]
        tasks = f"{summary.reused} task{'s' * (summary.reused != 1)}"
        return [f"nothing to do: {tasks} up to date ({duration(summary.seconds)})"]
    rows.insert(0, ("task", "result", "time", "size"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [f"{task:<{widths[0]}}  {result:<{widths[1]}}  {seconds:>{widths[2]}}  {bytes_:>{widths[3]}}".rstrip()
             for task, result, seconds, bytes_ in rows]
    total = f"{', '.join(counts)} in {duration(summary.seconds)}"
    return ["", *table, total] if summary.finished else [total]     # failures have been told already


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(number: int) -> str:
    """`0` as nothing, `812 B`, `4.2 MB`, `118 MB`."""
    if number <= 0:
        return ""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.1f} {unit}" if value < 9.95 and unit != "B" else f"{value:.0f} {unit}"


def amount(activity: Activity) -> str:
    """How much is done: `12 of 98 MB`, `40 of 137 packages`, `3 files`."""
    if not activity.unit:
        return ""
    if activity.unit == "bytes":
        done, total = size(activity.done) or "0 B", size(activity.total)
        return f"{done} of {total}" if total else done
    return f"{activity.done} of {activity.total} {activity.unit}" if activity.total else \
        f"{activity.done} {activity.unit}"
