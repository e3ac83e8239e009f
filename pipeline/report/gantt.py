"""The timeline as a picture: for each machine, and for the build, bars in as few rows as overlaps allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.markup import Markup, element
from pipeline.report.model import Phase
from pipeline.report.text import duration

_WIDTH = 1000
_LABELS = 110  # what the machines' names take on the left
_RIGHT = 14
_ROW = 22
_LETTER = 6.1  # width of a letter of the bars' font, on average
_COLOURS = 11  # that the style sheet has for phases
_PLAIN = 11  # and the one for what is no machine
_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


def picture(phases: Sequence[Phase], machines: Sequence[str]) -> Markup:
    """The phases as SVG: the machines in their order; what is none (build, verification) stands where it began."""
    begin = min(phase.start for phase in phases)
    span = max(max(phase.end for phase in phases) - begin, 0.5)
    scale = (_WIDTH - _LABELS - _RIGHT) / span
    numbers = colours(phases, machines)
    first = min((phase.start for phase in phases if phase.machine in machines), default=begin)
    others = {phase.machine: phase.start for phase in sorted(phases, key=lambda phase: -phase.start)
              if phase.machine not in machines}
    names = [*(name for name in others if others[name] <= first), *machines,
             *(name for name in others if others[name] > first)]
    bars: list[Markup] = []
    y = 26.0
    for machine in names:
        rows = _rows([phase for phase in phases if phase.machine == machine], scale)
        if not rows:
            continue
        height = len(rows) * _ROW
        bars.append(element("text", machine, x=4, y=y + 16, class_="machine"))
        for number, row in enumerate(rows):
            edges = [begin, *(edge for phase in row for edge in (phase.start, phase.end)), begin + span]
            for index, phase in enumerate(row):
                colour = numbers[phase.name] if machine in machines else _PLAIN
                free = (phase.start - edges[2 * index], edges[2 * index + 3] - phase.end)
                x = _LABELS + (phase.start - begin) * scale
                bars.append(_bar(phase, x, y + number * _ROW, scale, free, colour))
        y += height + 8
        bars.append(element("path", class_="rule", d=f"M0 {y - 4:g}H{_WIDTH}"))
    step = next((step for step in _STEPS if span / step <= 12), _STEPS[-1])
    grid = []
    for tick in range(int(span / step) + 1):
        x = _LABELS + tick * step * scale
        grid.append(element("path", class_="grid", d=f"M{x:.1f} 20V{y - 4:g}"))
        grid.append(element("text", _tick(tick * step), x=x, y=14, class_="tick"))
    return element("svg", *grid, *bars, viewBox=f"0 0 {_WIDTH} {y:g}", role="img", class_="gantt",
                   aria_label=f"Timeline of {duration(span)}")


def colours(phases: Sequence[Phase], machines: Sequence[str]) -> Mapping[str, int]:
    """A colour's number for each name of a machine's phase: the same name has the same colour on all machines."""
    ordered = sorted((phase for phase in phases if phase.machine in machines), key=lambda phase: phase.start)
    return {name: number % _COLOURS for number, name in enumerate(dict.fromkeys(phase.name for phase in ordered))}


def _rows(phases: list[Phase], scale: float) -> list[list[Phase]]:
    """Phases that do not overlap share a row; what began first is on top, and what lasts longer above its parts."""
    rows: list[list[Phase]] = []
    for phase in sorted(phases, key=lambda phase: (phase.start, -phase.end)):
        # Clocks of a report and of an event differ by milliseconds: a pixel of overlap is none.
        row = next((row for row in rows if row[-1].end <= phase.start + 1 / scale), None)
        if row is None:
            rows.append([phase])
        else:
            row.append(phase)
    return rows


def _bar(phase: Phase, x: float, y: float, scale: float, free: tuple[float, float], colour: int) -> Markup:
    """A bar with its name inside, or else beside it where there are enough `free` seconds before or after it."""
    width = max((phase.end - phase.start) * scale, 1.5)
    took = duration(phase.end - phase.start)
    title = element("title", f"{phase.machine}: {phase.name}, {took}{' FAILED' if phase.failed else ''} {phase.detail}")
    shape = element("rect", x=x, y=y, width=width, height=_ROW - 4, rx=3,
                    class_="bar failed" if phase.failed else f"bar c{colour}")
    label = None
    for words in (f"{phase.name} {took}", phase.name):
        if len(words) * _LETTER + 10 <= width:
            label = element("text", words, x=x + 5, y=y + 13, class_="inside")
            break
        if len(words) * _LETTER + 8 <= free[1] * scale:
            label = element("text", words, x=x + width + 4, y=y + 13, class_="outside")
            break
        if len(words) * _LETTER + 8 <= free[0] * scale:
            label = element("text", words, x=x - 4, y=y + 13, class_="outside before")
            break
    return element("g", title, shape, label)


def _tick(seconds: float) -> str:
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:g} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
