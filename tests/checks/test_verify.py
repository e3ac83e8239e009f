"""A whole verification against a table of answers."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pipeline.checks.machine import CHECKS
from pipeline.checks.result import Result, Verdict
from pipeline.checks.verify import verify
from pipeline.errors import ClusterError
from tests.checks.samples import EXPECTED, cluster, sections


class Answers:
    """A cluster of which all is known: sections by machine, and what OPKGs' tests print."""

    def __init__(self) -> None:
        self.sections = {machine.name: sections(machine) for machine in cluster().machines}
        self.status = {"base": 0, "c3": 0}
        self.output = "ran"
        self.runs: list[str] = []

    def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
        mark = _mark(script)
        (opkg,) = re.findall(r"^folder=\S+/(\w+)$", script, re.MULTILINE)
        self.runs.append(opkg)
        return 0, f"\n{mark} test_root {self.status[opkg]} 100.0 102.5\n{self.output}\n\n{mark} end\n", ""

    def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
        self.runs.append("facts")
        mark = _mark(script)
        for name, found in self.sections.items():
            for heading, body in {f"machine {name}": "", **found}.items():
                yield from f"\n{mark} {heading}\n{body}".splitlines(keepends=True)


def _mark(script: str) -> str:
    match = re.search(r"^mark=(\S+)$", script, re.MULTILINE)
    assert match is not None
    return match[1].strip("'")


def test_all_well() -> None:
    answers, seen = Answers(), list[Result]()
    verdict = verify(cluster(), answers, EXPECTED, seen.append)
    assert verdict.bad == ()
    assert verdict.passed and verdict.outcome == "passed"
    assert sorted(answers.runs) == ["base", "c3", "facts"]
    assert sorted(seen, key=str) == sorted(verdict.results, key=str)
    names = [(result.machine, result.name) for result in verdict.results]
    assert len(set(names)) == len(names)
    assert names[0] == ("oscarhead", "host name") and names[-1] == ("oscarhead", "opkg c3 test_root")
    for machine in cluster().machines:
        for check in CHECKS:
            assert ((machine.name, check.name) in names) == (machine.role in check.roles)


def test_the_whole_comes_back_from_json() -> None:
    verdict = verify(cluster(), Answers(), EXPECTED)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
    with pytest.raises(ValueError, match="format 0"):
        Verdict.from_json({**verdict.to_json(), "format": 0})


def test_one_failing_opkg_fails_the_cluster() -> None:
    answers = Answers()
    answers.status["c3"] = 1
    verdict = verify(cluster(), answers, EXPECTED)
    assert not verdict.passed
    assert [result.name for result in verdict.bad] == ["opkg c3 test_root"]


def test_a_silent_node_is_told_once() -> None:
    answers = Answers()
    answers.sections["node2"] = {"ping": "status 1\n", "status": "255\n", "err": "timed out\n", "clock": " 1.0\n"}
    verdict = verify(cluster(), answers, EXPECTED)
    assert [(result.machine, result.name) for result in verdict.bad] == [("node2", "ping"), ("node2", "ssh")]
    skipped = {result.name for result in verdict.results if result.outcome == "skipped"}
    assert {"host name", "packages", "image files"} <= skipped


def test_a_head_node_that_is_lost() -> None:
    class Lost(Answers):
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            raise ClusterError("oscarhead: the ssh connection broke", tail="reset by peer")

    verdict = verify(cluster(), Lost(), EXPECTED)
    facts = next(result for result in verdict.results if result.name == "facts")
    assert (facts.outcome, facts.message, facts.output) == (
        "error",
        "oscarhead: the ssh connection broke",
        "reset by peer",
    )
    assert not verdict.passed


def test_a_bad_section_spoils_no_check_that_does_not_need_it() -> None:
    answers = Answers()
    answers.sections["node1"]["swaps"] = "Filename\nnonsense\n"
    verdict = verify(cluster(), answers, EXPECTED)
    assert {(result.name, result.outcome) for result in verdict.bad} == {("partitions", "error"), ("swap", "error")}


@pytest.mark.parametrize(("machine", "check"), [("oscarhead", "disk files"), ("node1", "image files")])
def test_files_that_were_not_compared_are_not_called_good(machine: str, check: str) -> None:
    for changes in ({"tree": "\n"}, {"tree": ""}, {"sums": "md5sum ended with 127\n"}, {"elapsed": "1 0\n"}):
        answers = Answers()
        answers.sections[machine] |= changes
        verdict = verify(cluster(), answers, EXPECTED)
        assert [(result.machine, result.name) for result in verdict.bad] == [(machine, check)]


def test_nothing_checked_is_not_passed() -> None:
    assert Verdict("debian12", 0, 0, ()).outcome == "failed"
    assert Verdict("debian12", 0, 0, (Result("x", "head", "skipped"),)).outcome == "failed"


def test_what_machines_say_is_kept_clean_and_within_bounds() -> None:
    """Sequences, a million letters, times that are no numbers: the verdict has to be JSON for other programs too."""
    answers, told, node = Answers(), list[Result](), cluster().nodes[0].name
    answers.sections[node]["kernel"] = "\x1b]52;c;cm0=\x07" + "6.1 \u202e" * 100_000
    answers.sections[node]["elapsed"] = "9" * 400
    answers.sections[node]["mounts"] = "\x1b[2J" * 1000
    answers.output = "\x1b[2J" + "y" * 1_000_000
    answers.status = dict.fromkeys(answers.status, 1)
    verdict = verify(cluster(), answers, EXPECTED, told.append)
    assert {"failed", "error"} <= {result.outcome for result in verdict.results if result.machine == node}
    for result in (*verdict.results, *told):
        assert len(result.message) < 1100 and len(result.output) < 201_000
        assert not set(result.message + result.output) & {"\x1b", "\x07", "\u202e"}
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_mistake_in_a_progress_callback_ends_it() -> None:
    def broken(result: Result) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(cluster(), Answers(), EXPECTED, broken)


def test_a_head_node_that_is_lost_on_the_way() -> None:
    """Machines that have been judged stay so; the others are told of by one result."""

    class Breaks(Answers):
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            for line in super().lines(machine, script, timeout=timeout):
                if line.endswith(" machine node2\n"):
                    raise ClusterError("oscarhead: the ssh connection broke")
                yield line

    verdict = verify(cluster(), Breaks(), EXPECTED)
    first = verdict.results[0]
    assert (first.name, first.outcome, first.message) == ("facts", "error", "oscarhead: the ssh connection broke")
    judged = {result.machine for result in verdict.results if result.name == "host name" and result.good}
    assert {"oscarhead", "node2"} <= judged
    assert ("node2", "ping", "error") in [(item.machine, item.name, item.outcome) for item in verdict.results]


def test_what_is_kept_does_not_grow_with_the_number_of_nodes() -> None:
    """Two megabytes a node are told, and forgotten when the node has been judged."""
    whole = cluster()
    many = replace(
        whole,
        opkgs=(),
        nodes=tuple(replace(whole.nodes[0], name=f"node{number}", index=number) for number in range(1, 31)),
    )

    class Loud(Answers):
        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            mark = _mark(script)
            for item in many.machines:
                found = sections(item if item.role == "head" else whole.nodes[0])
                for heading, body in {f"machine {item.name}": "", **found}.items():
                    yield from f"\n{mark} {heading}\n{body}".splitlines(keepends=True)
                    if heading == "dmesg" and item.role == "compute":
                        yield from ("[    2.000000] a line of a kernel that talks a lot\n" for _ in range(40_000))

    tracemalloc.start()
    try:
        verdict = verify(many, Loud(), EXPECTED)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {result.name for result in verdict.bad} == {"host name"}  # all say that they are node1
    assert peak < 30 << 20, f"{peak >> 20} MiB"


def test_deadlines_grow_with_patience() -> None:
    class Timed(Answers):
        def __init__(self) -> None:
            super().__init__()
            self.given: list[float] = []

        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            self.given.append(timeout)
            assert "limit=720\n" in script
            return super().run(machine, script, timeout=timeout)

        def lines(self, machine: str, script: str, *, timeout: float) -> Iterator[str]:
            self.given.append(timeout)
            assert "lanes=7\n" in script
            return super().lines(machine, script, timeout=timeout)

    answers = Timed()
    verify(cluster(), answers, EXPECTED, lanes=7, patience=3)
    assert sorted(answers.given) == [1470, 1470, 2700]
