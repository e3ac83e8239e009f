"""One JSON object a line, for programs."""

from __future__ import annotations

import json
import time
from typing import Any, TextIO

from pipeline.errors import UserError
from pipeline.views.view import Activity, Failure, Finished, MachineState, Summary

#: The shortest time between two progress events of one task, in seconds.
_JSON_INTERVAL = 0.2


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
        self._write(
            "finished",
            task=finished.task,
            result=finished.result,
            seconds=round(finished.seconds, 3),
            size_bytes=finished.size_bytes,
        )

    def failed(self, failure: Failure, summary: Summary) -> None:
        self._write(
            "failed",
            task=failure.task,
            kind=failure.kind,
            seconds=round(failure.seconds, 3),
            **error_fields(failure.error),
        )

    def hold(self, question: str) -> bool:
        return False

    def go_on(self) -> None:
        """Nothing stood still."""

    def close(self) -> None:
        """Nothing is open."""

    def summary(self, summary: Summary) -> None:
        results = [item.result for item in summary.finished]
        self._write(
            "summary",
            built=results.count("built"),
            done=results.count("done"),
            reused=summary.reused,
            failed=sum(1 for item in summary.failed if item.kind != "skipped"),
            seconds=round(summary.seconds, 3),
        )


def write_json(stream: TextIO, event: str, **values: Any) -> None:
    """One event as a line, in ASCII: valid whatever the stream's encoding, and harmless on a terminal."""
    stream.write(json.dumps({"event": event, "time": round(time.time(), 3), **values}) + "\n")
    stream.flush()


def error_fields(error: UserError) -> dict[str, Any]:
    """A user error as JSON has it."""
    return error.told()
