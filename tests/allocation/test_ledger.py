"""The ledger: what was given stays, whoever asks at the same time; damage is told and nothing is made up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.allocation.ledger import Ledger
from pipeline.errors import UserError

TOP = Path(__file__).resolve().parents[2]
HOST = "qemu+ssh://root@m/system"

ASKER = """\
import sys
from pathlib import Path
from pipeline.allocation.ledger import Ledger
artifacts, name = sys.argv[1:]
print(Ledger(Path(artifacts)).give({"host": [name], "other": [name]}, lambda _: False)["host"][name])
"""


def nobody(_cluster: str) -> bool:
    return False


def test_what_was_given_stays_and_each_host_counts_for_itself(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.give({HOST: ["b"]}, nobody) == {HOST: {"b": 0}}
    first = ledger.content()
    assert ledger.give({HOST: ["a", "b"], "testbed": ["c"]}, nobody) == {HOST: {"b": 0, "a": 1}, "testbed": {"c": 0}}
    assert Ledger(tmp_path).give({HOST: ["b"]}, nobody) == {HOST: {"b": 0}}
    assert ledger.content() != first


def test_lots_go_back_only_when_new_ones_are_given_and_only_those_of_clusters_that_are_gone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.give({HOST: ["a", "b", "c"], "old": ["x"]}, nobody)
    before = ledger.content()
    assert ledger.give({HOST: ["c"]}, lambda name: name in "ax") == {HOST: {"c": 2}}
    assert ledger.content() == before
    assert ledger.give({HOST: ["c", "d", "e"]}, lambda name: name in "ax") == {HOST: {"c": 2, "d": 0, "e": 3}}
    assert json.loads(ledger.file.read_text())["lots"] == {HOST: {"b": 1, "c": 2, "d": 0, "e": 3}}


def test_ten_that_ask_at_once_get_ten_lots(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", ASKER, str(tmp_path)]
    asking = [
        subprocess.Popen([*argv, f"c{number}"], cwd=TOP, stdout=subprocess.PIPE, text=True) for number in range(10)
    ]
    answers = [process.communicate(timeout=60)[0] for process in asking]
    assert sorted(map(int, answers)) == list(range(10))
    assert Ledger(tmp_path).give({"host": ["c3"]}, nobody) == {"host": {"c3": int(answers[3])}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"schema": 2, "lots": {}}',
        '{"schema": 1, "lots": []}',
        '{"schema": 1, "lots": {"h": {"a": 0, "b": 0}}}',
        '{"schema": 1, "lots": {"h": {"a": true}}}',
        '{"schema": 1, "lots": {"h": {"a": 128}}}',
        '{"schema": 1, "lots": {"h": 1}}',
    ],
)
def test_a_damaged_one_is_told_and_stays_as_it_is(tmp_path: Path, text: str) -> None:
    ledger = Ledger(tmp_path)
    ledger.file.parent.mkdir()
    ledger.file.write_text(text)
    with pytest.raises(UserError, match=r"locks/allocation\.json: ") as told:
        ledger.give({HOST: ["a"]}, nobody)
    assert "stop all clusters on shared hosts and remove it" in told.value.hint
    assert ledger.file.read_text() == text
