"""What happened, as lines that all views for people share."""

from __future__ import annotations

from pipeline.figures import duration, size
from pipeline.views.view import Activity, Failure, Finished, Summary


def finished_line(finished: Finished) -> str:
    line = f"{finished.task}: {finished.result} in {duration(finished.seconds)}"
    return f"{line}, {size(finished.size_bytes)}" if finished.size_bytes else line


def failure_lines(failure: Failure) -> list[str]:
    if failure.kind == "skipped":
        return [f"{failure.task}: {failure.error.told()['message']}"]
    return [f"{failure.task}: FAILED after {duration(failure.seconds)}", *failure.error.render().splitlines()]


def summary_lines(summary: Summary) -> list[str]:
    """The final table, and one line that says it all."""
    rows = [
        (item.task, str(item.result), duration(item.seconds), size(item.size_bytes) if item.size_bytes else "")
        for item in summary.finished
    ]
    rows += [
        (item.task, "not tried" if item.kind == "skipped" else "FAILED", duration(item.seconds), "")
        for item in summary.failed
    ]
    counts = [
        f"{number} {word}"
        for word, number in (
            ("built", sum(1 for item in summary.finished if item.result == "built")),
            ("done", sum(1 for item in summary.finished if item.result == "done")),
            ("reused", summary.reused),
            ("failed", sum(1 for item in summary.failed if item.kind != "skipped")),
            ("not tried", sum(1 for item in summary.failed if item.kind == "skipped")),
        )
        if number
    ]
    if not rows:
        if not summary.reused:
            return [f"nothing to do ({duration(summary.seconds)})"]
        tasks = f"{summary.reused} task{'s' * (summary.reused != 1)}"
        return [f"nothing to do: {tasks} up to date ({duration(summary.seconds)})"]
    rows.insert(0, ("task", "result", "time", "size"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    table = [
        f"{task:<{widths[0]}}  {result:<{widths[1]}}  {seconds:>{widths[2]}}  {bytes_:>{widths[3]}}".rstrip()
        for task, result, seconds, bytes_ in rows
    ]
    total = f"{', '.join(counts)} in {duration(summary.seconds)}"
    return ["", *table, total] if summary.finished else [total]  # failures have been told already


def amount(activity: Activity) -> str:
    """How much is done: `12 MiB of 98 MiB`, `40 of 137 packages`, `3 files`."""
    if not activity.unit:
        return ""
    if activity.unit == "bytes":
        return f"{size(activity.done)} of {size(activity.total)}" if activity.total else size(activity.done)
    return (
        f"{activity.done} of {activity.total} {activity.unit}" if activity.total else f"{activity.done} {activity.unit}"
    )
