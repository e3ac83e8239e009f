"""The report as one HTML file: no script, nothing loaded from anywhere, light and dark as the reader's system is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.checks.result import Outcome, Result, Verdict
from pipeline.description import Cluster
from pipeline.figures import duration, size
from pipeline.report import gantt, network
from pipeline.report.markup import Markup, element, join
from pipeline.report.model import Artifact, Phase, Task, Timeline
from pipeline.report.text import tail

#: What is shown of each console: a whole boot with some reserve, so that a report stays a few megabytes at most.
_CONSOLE_BYTES = 96 * 1024
_OUTPUT_CHARACTERS = 32 * 1024
#: Of the timeline: more bars than pixels tell nothing, and take a browser long.
_MOST_PHASES = 2000
_SIGNS: Mapping[Outcome, str] = {"passed": "✓", "failed": "✗", "error": "!", "skipped": "-"}
_RESULTS = {"built": "passed", "reused": "skipped", "done": "passed", "failed": "failed"}


def render(
    verdict: Verdict, cluster: Cluster, timeline: Timeline, consoles: Mapping[str, Path], artifacts: Sequence[Artifact]
) -> str:
    """The whole page."""
    phases = _phases(verdict, timeline, cluster)
    sections = {
        "wrong": ("What is wrong", _wrong(verdict)),
        "network": ("Network", _wide(network.picture(cluster, _states(verdict, cluster)))),
        "timeline": ("Timeline", _timeline(phases, cluster)),
        "checks": ("Checks", _checks(verdict, cluster)),
        "build": ("Build", _build(timeline.tasks)),
        "consoles": ("Consoles", _consoles(consoles)),
        "artifacts": ("Artifacts", _artifacts(artifacts)),
    }
    shown = {name: section for name, section in sections.items() if section[1]}
    title = f"{cluster.name}: {verdict.outcome}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        element("title", title),
        element("style", Markup((Path(__file__).with_name("page.css")).read_text())),
    )
    body = element(
        "body",
        _header(verdict, cluster),
        _figures(verdict, cluster, timeline.tasks),
        element("nav", *(element("a", heading, href=f"#{name}") for name, (heading, _) in shown.items())),
        *(element("section", element("h2", heading), content, id=name) for name, (heading, content) in shown.items()),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _header(verdict: Verdict, cluster: Cluster) -> Markup:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(verdict.started))
    what = f"{cluster.distro} · {cluster.architecture} · {cluster.domain} · verified {when}"
    sign = "✓" if verdict.passed else "✗"
    return element(
        "header",
        element("div", element("h1", f"Cluster {cluster.name}"), element("p", what, class_="soft")),
        element("div", f"{sign} {verdict.outcome}", class_=f"badge {verdict.outcome}"),
    )


def _figures(verdict: Verdict, cluster: Cluster, tasks: Sequence[Task]) -> Markup:
    bad = len(verdict.bad)
    figures = [
        (f"{verdict.count('passed')} / {len(verdict.results)}", "checks passed"),
        (str(bad), "wrong"),
        (str(len(cluster.machines)), f"machines, {len(cluster.nodes)} of them compute nodes"),
        (duration(verdict.seconds), "for verification"),
    ]
    if tasks:
        made = sum(task.result in ("built", "done") for task in tasks)
        reused = sum(task.result == "reused" for task in tasks)
        figures.append((f"{made} + {reused}", "tasks run + results reused"))
    return element(
        "div",
        *(element("div", element("b", value), element("span", label)) for value, label in figures),
        class_="figures",
    )


def _wrong(verdict: Verdict) -> Markup | None:
    return _table(verdict.bad, machines=True) if verdict.bad else None


def _checks(verdict: Verdict, cluster: Cluster) -> Markup:
    if not verdict.results:
        return element("p", "Nothing was checked.", class_="empty")
    names = dict.fromkeys(
        [*(machine.name for machine in cluster.machines), *(result.machine for result in verdict.results)]
    )
    groups = []
    for name in names:
        results = [result for result in verdict.results if result.machine == name]
        if results:
            passed = sum(result.outcome == "passed" for result in results)
            heading = f"{name}: {passed} of {len(results)} passed"
            groups.append(element("details", element("summary", heading), _table(results), class_="group", open=True))
    return join(groups)


def _table(results: Sequence[Result], *, machines: bool = False) -> Markup:
    rows = []
    for result in results:
        cells = [element("td", _SIGNS[result.outcome], class_="sign", title=result.outcome)]
        if machines:
            cells.append(element("td", result.machine, class_="name"))
        cells += [
            element("td", result.name, class_="name"),
            element("td", result.message, _output(result), class_="text"),
            element("td", duration(result.seconds) if result.seconds else "", class_="number"),
        ]
        rows.append(element("tr", *cells, class_=result.outcome))
    return _wide(element("table", *rows))


def _output(result: Result) -> Markup | None:
    if not result.output.strip():
        return None
    shown = result.output[-_OUTPUT_CHARACTERS:]
    heading = "output" if shown == result.output else f"output (its last {size(_OUTPUT_CHARACTERS)})"
    return element("details", element("summary", heading), element("pre", shown), open=not result.good)


def _timeline(phases: Sequence[Phase], cluster: Cluster) -> Markup | None:
    if not phases:
        return None
    machines = [machine.name for machine in cluster.machines]
    left_out = len(phases) - _MOST_PHASES
    if left_out > 0:
        phases = sorted(phases, key=lambda phase: phase.start - phase.end)[:_MOST_PHASES]
    legend = [
        element("span", element("i", class_=f"c{colour}"), name)
        for name, colour in gantt.colours(phases, machines).items()
    ]
    rows = [
        element(
            "tr",
            element("td", phase.machine, class_="name"),
            element("td", phase.name, class_="name"),
            element("td", phase.detail, class_="text"),
            element("td", _SIGNS["failed"] if phase.failed else "", class_="sign"),
            element("td", duration(phase.end - phase.start), class_="number"),
            class_="failed" if phase.failed else "passed",
        )
        for phase in sorted(phases, key=lambda phase: (phase.start, phase.end))
    ]
    return join(
        [
            *([element("p", f"The {left_out} shortest phases are left out.", class_="soft")] if left_out > 0 else []),
            _wide(gantt.picture(phases, machines)),
            element("div", *legend, class_="legend"),
            element("details", element("summary", f"as a table: {len(rows)} phases"), _wide(element("table", *rows))),
        ]
    )


def _phases(verdict: Verdict, timeline: Timeline, cluster: Cluster) -> list[Phase]:
    """The machines' phases, and as such too: tasks that ran, and what verification spent its time on."""
    built = [
        Phase("build", task.name, task.start, task.start + task.seconds, task.reason, task.result == "failed")
        for task in timeline.tasks
        if task.start
    ]
    checked = [
        Phase(
            "verification",
            result.name if result.machine == cluster.head.name else f"{result.name} of {result.machine}",
            result.started,
            result.started + result.seconds,
            result.message,
            not result.good,
        )
        for result in verdict.results
        if result.seconds >= 0.05
    ]
    return [*built, *timeline.phases, *checked]


def _build(tasks: Sequence[Task]) -> Markup | None:
    if not tasks:
        return None
    heading = element(
        "tr",
        element("th"),
        element("th", "task"),
        element("th", "why"),
        element("th", "size", class_="number"),
        element("th", "time", class_="number"),
    )
    rows = [
        element(
            "tr",
            element("td", {"failed": "✗", "reused": "↺"}.get(task.result, "✓"), class_="sign", title=task.result),
            element("td", task.name, class_="name"),
            element("td", task.reason or task.result, class_="text"),
            element("td", size(task.size_bytes) if task.size_bytes else "", class_="number"),
            element("td", duration(task.seconds) if task.result != "reused" else "", class_="number"),
            class_=_RESULTS[task.result],
        )
        for task in tasks
    ]
    return _wide(element("table", heading, *rows))


def _consoles(consoles: Mapping[str, Path]) -> Markup | None:
    shown = []
    for machine, path in consoles.items():
        if not path.is_file():
            continue
        lines, before = tail(path, _CONSOLE_BYTES)
        left = f", {size(before)} before that left out" if before else ""
        summary = element("summary", f"{machine} ({len(lines.splitlines())} lines{left})")
        shown.append(element("details", summary, element("pre", lines or "nothing was printed"), class_="consoles"))
    return join(shown) if shown else None


def _artifacts(artifacts: Sequence[Artifact]) -> Markup | None:
    if not artifacts:
        return None
    rows = [
        element(
            "tr",
            element("td", item.name, class_="name"),
            element("td", element("code", item.digest), class_="text"),
            element("td", size(item.size_bytes) if item.size_bytes else "", class_="number"),
        )
        for item in artifacts
    ]
    return _wide(element("table", *rows))


def _states(verdict: Verdict, cluster: Cluster) -> dict[str, network.State]:
    states: dict[str, network.State] = {}
    for machine in cluster.machines:
        results = [result for result in verdict.results if result.machine == machine.name]
        if results:
            states[machine.name] = "passed" if all(result.good for result in results) else "failed"
    return states


def _wide(content: Markup) -> Markup:
    return element("div", content, class_="wide")
