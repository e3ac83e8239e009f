"""The timeline as a picture: for each machine, and for the build, bars in as few rows as overlaps allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.figures import duration
from pipeline.report.markup import Markup, element
from pipeline.report.model import Phase

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
    others = {
        phase.machine: phase.start
        for phase in sorted(phases, key=lambda phase: -phase.start)
        if phase.machine not in machines
    }
    names = [
        *(name for name in others if others[name] <= first),
        *machines,
        *(name for name in others if others[name] > first),
    ]
    bars: list[Markup] = []
    y = 26.0
    for machine in names:
        rows = _rows([phase for phase in phases if phase.machine == machine], scale)
        if not rows:
            continue
        height = len(rows) * _ROW
        bars.append(element("text", machine, x=4, y=y + 16, class_="machine"))
        for number, row in enumerate(rows):
            taken = float(_LABELS)
            for phase, following in zip(row, [*row[1:], None], strict=True):
                colour = numbers[phase.name] if machine in machines else _PLAIN
                x, end = (_LABELS + (when - begin) * scale for when in (phase.start, phase.end))
                limit = _LABELS + (following.start - begin) * scale if following else _WIDTH - _RIGHT
                bar, taken = _bar(phase, x, max(end - x, 1.5), y + number * _ROW, (taken, limit), colour)
                bars.append(bar)
        y += height + 8
        bars.append(element("path", class_="rule", d=f"M0 {y - 4:g}H{_WIDTH}"))
    step = next((step for step in _STEPS if span / step <= 12), _STEPS[-1])
    grid = []
    for tick in range(int(span / step) + 1):
        x = _LABELS + tick * step * scale
        grid.append(element("path", class_="grid", d=f"M{x:.1f} 20V{y - 4:g}"))
        grid.append(element("text", _tick(tick * step), x=x, y=14, class_="tick"))
    return element(
        "svg",
        *grid,
        *bars,
        viewBox=f"0 0 {_WIDTH} {y:g}",
        role="img",
        class_="gantt",
        aria_label=f"Timeline of {duration(span)}",
    )


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


def _bar(
    phase: Phase, x: float, width: float, y: float, free: tuple[float, float], colour: int
) -> tuple[Markup, float]:
    """A bar, and where on its right the next free place begins.

    Its name stands inside, or else beside it: between the two ends of what is `free`.
    """
    took = duration(phase.end - phase.start)
    title = element("title", f"{phase.machine}: {phase.name}, {took}{' FAILED' if phase.failed else ''} {phase.detail}")
    shape = element(
        "rect", x=x, y=y, width=width, height=_ROW - 4, rx=3, class_="bar failed" if phase.failed else f"bar c{colour}"
    )
    end = x + width
    for words in (f"{phase.name} {took}", phase.name):
        room = len(words) * _LETTER + 10
        place, style, used = x + 5, "inside", end
        if room > width:
            place, style, used = end + 4, "outside", end + room
            if room > free[1] - end:
                place, style, used = x - 4, "outside before", end
                if room > x - free[0]:
                    continue
        label = element("text", words, x=place, y=y + 13, class_=style)
        return element("g", title, shape, label), used
    return element("g", title, shape), end


def _tick(seconds: float) -> str:
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:g} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
