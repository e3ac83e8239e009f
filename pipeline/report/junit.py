"""The verdict as JUnit XML, the dialect that CI systems have in common: one suite a machine, one case a check."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree

from pipeline.checks.result import Result, Verdict
from pipeline.description import Cluster
from pipeline.foreign import clean
from pipeline.report.model import Artifact

_TAGS = {"failed": "failure", "error": "error", "skipped": "skipped"}


def render(verdict: Verdict, cluster: Cluster, artifacts: Sequence[Artifact]) -> bytes:
    """The XML document."""
    root = ElementTree.Element(
        "testsuites", {"name": verdict.cluster, **_counts(verdict.results), "time": f"{verdict.seconds:.3f}"}
    )
    machines = dict.fromkeys(
        [*(machine.name for machine in cluster.machines), *(result.machine for result in verdict.results)]
    )
    for machine in machines:
        results = [result for result in verdict.results if result.machine == machine]
        if not results:
            continue
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            {
                "name": f"{verdict.cluster}.{machine}",
                "hostname": machine,
                "timestamp": datetime.fromtimestamp(verdict.started, UTC).strftime("%Y-%m-%dT%H:%M:%S"),
                **_counts(results),
                "time": f"{sum(result.seconds for result in results):.3f}",
            },
        )
        _properties(
            suite,
            {
                "cluster": cluster.name,
                "distro": cluster.distro,
                "architecture": cluster.architecture,
                "verdict": verdict.outcome,
                **{f"artifact:{item.name}": item.digest for item in artifacts},
            },
        )
        for result in results:
            _case(suite, verdict.cluster, result)
    return _document(root)


def _case(suite: ElementTree.Element, cluster: str, result: Result) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": f"{cluster}.{result.machine}",
            "name": clean(result.name),
            "time": f"{result.seconds:.3f}",
        },
    )
    tag = _TAGS.get(result.outcome)
    if tag is not None:
        mark = ElementTree.SubElement(case, tag, {"message": clean(result.message)})
        if tag != "skipped":
            mark.set("type", result.outcome)
            mark.text = clean(result.message)
    said = [] if tag else [result.message]
    shown = clean("\n".join(part for part in (*said, result.output) if part))
    if shown:
        ElementTree.SubElement(case, "system-out").text = shown


def _properties(suite: ElementTree.Element, values: dict[str, str]) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", {"name": clean(name), "value": clean(value)})


def _counts(results: Sequence[Result]) -> dict[str, str]:
    outcomes = [result.outcome for result in results]
    return {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failed")),
        "errors": str(outcomes.count("error")),
        "skipped": str(outcomes.count("skipped")),
    }


def of_command(cluster: str, command: Sequence[str], status: int, started: float, ended: float) -> bytes:
    """The document on one command on a copy of a cluster: a suite with one case."""
    counts = {"tests": "1", "failures": str(int(status != 0)), "errors": "0", "skipped": "0"}
    times = {"time": f"{ended - started:.3f}"}
    when = datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    root = ElementTree.Element("testsuites", {"name": cluster, **counts, **times})
    suite = ElementTree.SubElement(root, "testsuite", {"name": cluster, "timestamp": when, **counts, **times})
    case = ElementTree.SubElement(suite, "testcase", {"classname": cluster, "name": clean(" ".join(command)), **times})
    if status:
        ElementTree.SubElement(case, "failure", {"message": f"exit status {status}"})
    return _document(root)


def together(documents: Sequence[bytes]) -> bytes:
    """One document of several that pytest has written."""
    root = ElementTree.Element("testsuites")
    for document in documents:
        root.extend(ElementTree.fromstring(document).iter("testsuite"))
    return _document(root)


def _document(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"
