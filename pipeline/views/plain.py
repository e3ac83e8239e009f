"""Plain lines, for logs and pipes."""

from __future__ import annotations

import time
from typing import TextIO

from pipeline import foreign
from pipeline.figures import duration
from pipeline.views.lines import amount, failure_lines, finished_line, summary_lines
from pipeline.views.view import Activity, Failure, Finished, MachineState, Summary

#: How often a plain log repeats the progress of one task, in seconds.
_PLAIN_INTERVAL = 30


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
