"""JUnit XML, read back as a CI system does."""

from __future__ import annotations

from xml.etree import ElementTree

from pipeline.checks.result import Verdict
from pipeline.report import junit
from tests.checks.samples import cluster
from tests.report.samples import ARTIFACTS, FAILED, PASSED


def root(verdict: Verdict) -> ElementTree.Element:
    return ElementTree.fromstring(junit.render(verdict, cluster(), ARTIFACTS))


def test_counts_add_up() -> None:
    suites = root(FAILED)
    assert suites.tag == "testsuites"
    assert {name: suites.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    assert [suite.get("hostname") for suite in suites] == ["oscarhead", "node1", "node2"]
    for name in ("tests", "failures", "errors", "skipped"):
        assert sum(int(str(suite.get(name))) for suite in suites) == int(str(suites.get(name)))
    assert sum(len(list(suite.iter("testcase"))) for suite in suites) == 6


def test_cases() -> None:
    cases = {str(case.get("name")): case for case in root(FAILED).iter("testcase")}
    failure = cases["packages"].find("failure")
    assert failure is not None and str(failure.get("message")).startswith("2 missing: <script>")
    output = cases["packages"].find("system-out")
    assert output is not None and "<script>" in str(output.text) and "c2VjcmV0" not in str(output.text)
    assert cases["services"].find("error") is not None
    assert cases["clock"].find("skipped") is not None
    good = cases["opkg slurm test_user"]
    assert [child.tag for child in good] == ["system-out"]
    assert good.get("time") == "6.500" and good.get("classname") == "debian12.oscarhead"


def test_properties() -> None:
    properties = {item.get("name"): item.get("value") for item in root(PASSED).iter("property")}
    assert properties["cluster"] == "debian12" and properties["verdict"] == "passed"
    assert properties["artifact:image:debian12"] == "ab" * 32


def test_nothing_checked() -> None:
    assert root(Verdict("debian12", 0, 0, ())).get("tests") == "0"


def test_a_command_is_a_suite_with_one_case() -> None:
    root = ElementTree.fromstring(junit.of_command("one", ["run", "\x1b[1mit"], 3, 0.0, 2.5))
    assert (root.get("tests"), root.get("failures"), root.get("time")) == ("1", "1", "2.500")
    (case,) = root.iter("testcase")
    assert "\x1b" not in case.attrib["name"] and case.attrib["name"].startswith("run ")
    assert [each.get("message") for each in case] == ["exit status 3"]
    passed = ElementTree.fromstring(junit.of_command("one", ["true"], 0, 0.0, 1.0))
    assert list(passed.iter("failure")) == []


def test_what_pytest_wrote_for_several_copies_is_one_document() -> None:
    one = b'<testsuites><testsuite name="a"><testcase name="x"/></testsuite></testsuites>'
    root = ElementTree.fromstring(junit.together([one, one.replace(b"x", b"y")]))
    assert [case.get("name") for case in root.iter("testcase")] == ["x", "y"]
