"""The HTML report: well formed, alone, and not to be broken by what machines print."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipeline.checks.result import Verdict
from pipeline.report import gantt, network, page
from pipeline.report.model import Phase, Timeline
from tests.checks.samples import cluster
from tests.report.samples import ARTIFACTS, FAILED, HOSTILE, PASSED, TIMELINE


class Reader(HTMLParser):
    """Notes elements, text and attributes, and that every element is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "br", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def consoles(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "head.log").write_text("[  \x1b[0;32mOK\x1b[0m  ] Started\r\n" + HOSTILE, errors="replace")
    (tmp_path / "node1.log").write_bytes(b"".join(b"line %d \xff\n" % number for number in range(50_000)))
    return {"oscarhead": tmp_path / "head.log", "node1": tmp_path / "node1.log", "node2": tmp_path / "none.log"}


@pytest.mark.parametrize("verdict", [FAILED, PASSED, Verdict("debian12", 0, 0, ())], ids=["failed", "passed", "empty"])
@pytest.mark.parametrize("timeline", [TIMELINE, Timeline()], ids=["times", "none"])
def test_well_formed_and_alone(verdict: Verdict, timeline: Timeline, consoles: dict[str, Path]) -> None:
    html = page.render(verdict, cluster(), timeline, consoles, ARTIFACTS)
    reader = Reader(html)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(reader.elements)
    loading = [
        (name, value)
        for name, value in reader.attributes
        if name in ("src", "action", "data", "srcset", "poster", "style") or name.startswith("on")
    ]
    assert loading == []
    assert all(value.startswith("#") for name, value in reader.attributes if name == "href")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style and "@import" not in style
    targets = {value for name, value in reader.attributes if name == "id"}
    assert {value.removeprefix("#") for name, value in reader.attributes if name == "href"} <= targets


def test_hostile_output_is_text(consoles: dict[str, Path]) -> None:
    html = page.render(FAILED, cluster(), TIMELINE, consoles, ARTIFACTS)
    reader = Reader(html)
    assert '<script>alert("x")</script> &' in reader.text
    assert "onerror=alert(1)>" in reader.text
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", html)
    assert "c2VjcmV0" not in html and "[a private key was here]" in html
    html.encode()


def test_what_it_tells(consoles: dict[str, Path]) -> None:
    text = Reader(page.render(FAILED, cluster(), TIMELINE, consoles, ARTIFACTS)).text
    for machine in cluster().machines:
        assert machine.name in text
        for card in machine.interfaces:
            assert card.mac in text and f"{card.address}/{card.prefix}" in text
    for told in (
        "✗ failed",
        "What is wrong",
        "3 / 6",
        "10.10.0.1",
        "one job ran on: node1 node2",
        "services cannot be read",
        "no answer to ssh",
        "ab" * 32,
        "READY",
        "FAIL partition: no disk",
        "image:debian12",
        "line 49999",
        "Started",
    ):
        assert told in text, told
    assert "line 0 " not in text  # only a console's end is kept
    text = Reader(page.render(PASSED, cluster(), TIMELINE, consoles, ARTIFACTS)).text
    assert "✓ passed" in text and "What is wrong" not in text


def test_bad_results_are_open_and_good_ones_closed() -> None:
    html = page.render(FAILED, cluster(), Timeline(), {}, ())
    assert "<details open><summary>output" in html
    assert "<details><summary>output" in html


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 12])
def test_network_of_any_size(count: int) -> None:
    whole = cluster()
    nodes = tuple(replace(whole.nodes[0], name=f"node{number}") for number in range(count))
    svg = parsed(network.picture(replace(whole, nodes=nodes), {"oscarhead": "passed", "node0": "failed"}))
    _, _, width, height = map(float, str(svg.get("viewBox")).split())
    boxes = list(svg.iter("rect"))
    assert len(boxes) == 2 + count
    for box in boxes:
        x, y, w, h = (float(str(box.get(name))) for name in ("x", "y", "width", "height"))
        assert min(x, y) >= 0 and x + w <= width and y + h <= height
    assert len({(box.get("x"), box.get("y")) for box in boxes}) == len(boxes)


def test_overlapping_phases_have_rows_of_their_own() -> None:
    phases = [Phase("node1", "install", 0, 30), Phase("node1", "image", 5, 25), Phase("node1", "boot", 30, 44)]
    svg = parsed(gantt.picture(phases, ["node1"]))
    rows = {str(rect.get("y")) for rect in svg.iter("rect")}
    assert len(rows) == 2
    bars = list(svg.iter("rect"))
    assert bars[0].get("y") == bars[1].get("y") != bars[2].get("y")


def test_names_beside_bars_do_not_meet() -> None:
    phases = [Phase("checks", f"step {number}", number * 100, number * 100 + 25 * (number % 4)) for number in range(12)]
    svg = parsed(gantt.picture(phases, []))
    taken = []
    for text in svg.iter("text"):
        style, x = str(text.get("class")), float(str(text.get("x")))
        if style.startswith(("inside", "outside")):
            width = len(text.text or "") * 6.1
            taken.append((x - width, x) if "before" in style else (x, x + width))
    taken.sort()
    assert taken
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(taken))


@pytest.mark.parametrize("end", [0.0, 0.01, 3.0, 100.0, 86400.0 * 3])
def test_timeline_of_any_length(end: float) -> None:
    svg = parsed(gantt.picture([Phase("head", "boot", 1e9, 1e9 + end)], ["head"]))
    ticks = [text for text in svg.iter("text") if text.get("class") == "tick"]
    assert 1 <= len(ticks) <= 14
    for rect in svg.iter("rect"):
        assert float(str(rect.get("x"))) + float(str(rect.get("width"))) <= 1000


def test_more_phases_than_anybody_can_see_are_not_drawn() -> None:
    phases = (
        Phase("node1", "install", 0, 1000),
        *(Phase("node1", f"step{number}", number, number + 0.5 + number / 1e5) for number in range(5000)),
    )
    html = page.render(PASSED, cluster(), Timeline(phases), {}, ())
    assert html.count("<rect") < 2500 and len(html) < 3_000_000
    assert "shortest phases are left out" in html
    assert "step4999" in html and "step0<" not in html
