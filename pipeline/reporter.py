"""What doit tells about a run, put together with what the tasks tell themselves, and handed to a view.

doit knows that a task starts, is skipped, ends or fails; `events` brings why it runs, how far it is and what became
of it.  Both arrive from different threads and in no fixed order, so one lock guards one record of the run.  How it
looks is the views' business: a live picture on a terminal, plain lines elsewhere, JSON with `--json`.

doit makes one of the classes below (`[tool.doit.plugins.reporter]`) and calls its methods; nothing of doit is imported
here, and rich only once something runs on a terminal: a run with nothing to do must end at once.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TextIO

from pipeline import events
from pipeline.errors import UserError
from pipeline.views.jsonlines import JsonView
from pipeline.views.plain import PlainView
from pipeline.views.terminal import TerminalView
from pipeline.views.view import Activity, Failure, Finished, Summary, View


class Task(Protocol):
    """The little of a doit task that is read here."""

    name: str

    @property
    def actions(self) -> Sequence[Any]: ...


class Fail(Protocol):
    """A failure as doit hands it over.  `pipeline.commands.run` adds `error`, the exception itself."""

    def get_name(self) -> str: ...

    def get_msg(self) -> str: ...


class Reporter:
    """The record of one run.  doit calls all methods but `hear` from its main thread."""

    desc = "progress of a run"

    def __init__(self, outstream: TextIO, options: Mapping[str, Any]) -> None:
        self._lock = threading.RLock()
        self._asking = threading.Lock()
        self._view = self.view(outstream)
        self._begin = time.monotonic()
        self._reused = 0
        self._reasons: dict[str, str] = {}
        self._activities: dict[str, Activity] = {}
        self._outcomes: dict[str, events.Outcome] = {}
        self._ended: set[str] = set()
        self._finished: list[Finished] = []
        self._failed: list[Failure] = []
        self._problems: list[str] = []
        self._unsubscribe = events.subscribe(self.hear)
        events.answer_with(self.ask)

    def view(self, stream: TextIO) -> View:
        raise NotImplementedError

    # -- what the tasks tell

    def hear(self, event: events.Event) -> None:
        """Take in one event; called from the thread that published it."""
        with self._lock:
            match event:
                case events.Note(text):
                    self._view.note(text)
                case events.Warning(text):
                    self._view.warning(text)
                case events.Reason(task, text):
                    self._reasons[task] = text
                    if task in self._activities:
                        self._give_reason(self._activities[task])
                case events.Outcome(task):
                    self._outcomes[task] = event
                case events.Progress(task) | events.Phase(task) if task in self._ended:
                    pass  # a straggler from another thread
                case events.Progress(task, done, total, unit):
                    activity = self._activity(task)
                    activity.done, activity.total, activity.unit = done, total, unit
                    self._view.progress(activity)
                case events.Phase(task, machine, phase, detail):
                    activity = self._activity(task)
                    self._view.phase(activity, activity.enter(machine, phase, detail))

    def ask(self, question: str) -> bool:
        """Ask whoever sits at the terminal.  Not under the lock: all else goes on, and an interrupted run may end."""
        with self._asking:
            with self._lock:
                if not (sys.stdin.isatty() and self._view.hold(f"{question} [y/N] ")):
                    return False
            try:
                return _typed_line().strip().lower() in ("y", "yes")
            finally:
                with self._lock:
                    self._view.go_on()

    def _activity(self, task: str) -> Activity:
        """The record of a task that runs; made at the first sign of it, for events overtake doit's own calls."""
        if task not in self._activities:
            self._activities[task] = activity = Activity(task)
            self._view.started(activity, self._counts())
            self._give_reason(activity)
        return self._activities[task]

    def _give_reason(self, activity: Activity) -> None:
        text = self._reasons.get(activity.task, "")
        if text and text != activity.reason:
            activity.reason = text
            self._view.reason(activity)

    # -- what doit tells

    def initialize(self, tasks: Mapping[str, Task], selected: list[str]) -> None:
        """Nothing to show before the first task."""

    def get_status(self, task: Task) -> None:
        """Nothing to show while doit looks whether a task is up to date."""

    def execute_task(self, task: Task) -> None:
        if task.actions:
            with self._lock:
                self._activity(task.name)

    def add_success(self, task: Task) -> None:
        if not task.actions:
            return
        with self._lock:
            self._ended.add(task.name)
            activity = self._activities.pop(task.name, None) or Activity(task.name)
            outcome = self._outcomes.get(task.name) or events.Outcome(task.name, "done", 0, 0)
            finished = Finished(task.name, outcome.result, outcome.seconds or activity.seconds, outcome.size_bytes)
            if finished.result == "reused":
                self._reused += 1
            else:
                self._finished.append(finished)
            self._view.finished(activity, finished, self._counts())

    def skip_uptodate(self, task: Task) -> None:
        if task.actions:
            with self._lock:
                self._reused += 1
                self._view.finished(Activity(task.name), Finished(task.name, "reused", 0, 0), self._counts())

    def skip_ignore(self, task: Task) -> None:
        """Nothing is ever ignored: `doit ignore` is refused."""

    def add_failure(self, task: Task, fail: Fail) -> None:
        with self._lock:
            self._ended.add(task.name)
            activity = self._activities.pop(task.name, None)
            seconds = activity.seconds if activity else 0.0
            failure = _failure(task.name, seconds, fail)
            self._failed.append(failure)
            self._view.failed(failure, self._counts())

    def cleanup_error(self, fail: Fail) -> None:
        with self._lock:
            self._problems.append(fail.get_msg())

    def runtime_error(self, message: str) -> None:
        with self._lock:
            self._problems.append(message)

    def teardown_task(self, task: Task) -> None:
        """Nothing to show: no task has a teardown that lasts."""

    def complete_run(self) -> None:
        """Show the result.  A run that an exception ends has none: whoever catches that says what comes of it."""
        self._unsubscribe()
        events.answer_with(None)
        with self._lock:
            self._view.close()
            for text in self._problems:
                self._view.note(text)
            if sys.exc_info()[1] is None:
                self._view.summary(self._counts())

    def _counts(self) -> Summary:
        return Summary(tuple(self._finished), self._reused, tuple(self._failed), time.monotonic() - self._begin)


class LiveReporter(Reporter):
    """A live picture on a terminal, plain lines elsewhere."""

    desc = "live view on a terminal, plain lines elsewhere"

    def view(self, stream: TextIO) -> View:
        if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            return TerminalView(stream)
        return PlainView(stream)


class EventsReporter(Reporter):
    """One JSON object a line."""

    desc = "one JSON object a line (as --json)"

    def view(self, stream: TextIO) -> View:
        return JsonView(stream)


def _typed_line() -> str:
    """A line from the terminal, "" at its end.  A thread that only reads would not heed that the run is interrupted."""
    typed = b""
    while not typed.endswith(b"\n"):
        if select.select([sys.stdin], [], [], 0.5)[0]:
            data = os.read(sys.stdin.fileno(), 1024)
            if not data:
                break
            typed += data
    return typed.decode("utf-8", "replace")


def _failure(task: str, seconds: float, fail: Fail) -> Failure:
    """Tell apart what a person can put right, what doit itself found, what was never tried, and bugs."""
    error = getattr(fail, "error", None)
    if isinstance(error, UserError):
        return Failure(task, seconds, "error", error)
    if isinstance(error, BaseException):
        text = "".join(traceback.format_exception(error)).rstrip()
        return Failure(
            task,
            seconds,
            "bug",
            UserError(
                f"{type(error).__name__}: {error}",
                tail=text,
                hint="this is a bug in the pipeline, not a mistake of yours: please report it with these lines",
            ),
        )
    if fail.get_name() == "UnmetDependency":
        return Failure(task, seconds, "skipped", UserError(f"not tried: {fail.get_msg().strip()} failed"))
    return Failure(task, seconds, "error", UserError(fail.get_msg().strip()))
