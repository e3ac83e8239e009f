"""The verdict for whoever waits at a terminal, or reads a log of one."""

from __future__ import annotations

from typing import TextIO

from pipeline import foreign
from pipeline.checks.result import Outcome, Verdict
from pipeline.figures import duration

_SIGNS: dict[Outcome, tuple[str, str]] = {
    "passed": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "error": ("!", "bold magenta"),
    "skipped": ("-", "dim"),
}
_LINES = 12


def show(verdict: Verdict, stream: TextIO) -> None:
    """What is wrong in full, what is right as one line a machine; with colours on a terminal, plain elsewhere."""
    if stream.isatty():
        from rich.console import Console
        from rich.text import Text

        console = Console(file=stream, highlight=False)
        for line, style in _lines(verdict):
            console.print(Text(line, style))
    else:
        for line, _ in _lines(verdict):
            print(line, file=stream)


def _lines(verdict: Verdict) -> list[tuple[str, str]]:
    """(line, style) each."""
    lines = []
    for machine in dict.fromkeys(result.machine for result in verdict.results):
        results = [result for result in verdict.results if result.machine == machine]
        good = [result.name for result in results if result.outcome == "passed"]
        bad = any(not result.good for result in results)
        sign, style = _SIGNS["failed" if bad else "passed"]
        lines.append((f"{sign} {machine}: {len(good)} of {len(results)} checks passed", style))
        for result in results:
            if result.outcome == "passed":
                continue
            sign, style = _SIGNS[result.outcome]
            lines.append((f"  {sign} {result.name}: {foreign.line(result.message)}", style))
            if not result.good:
                shown = foreign.last_lines(result.output, _LINES).splitlines()
                lines += [(f"      | {line}", "dim") for line in shown]
    counts = ", ".join(f"{verdict.count(outcome)} {outcome}" for outcome in _SIGNS if verdict.count(outcome))
    style = "bold green" if verdict.passed else "bold red"
    total = f"{verdict.outcome} ({counts or 'nothing was checked'}) in {duration(verdict.seconds)}"
    lines.append((f"{verdict.cluster}: {total}", style))
    return lines
