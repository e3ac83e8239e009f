"""All clusters are told, whatever has become of their recipes."""

from __future__ import annotations

from pathlib import Path

from pipeline.columns import Table
from pipeline.verbs.clusters.list import ListedCluster
from tests.verbs.clusters.conftest import call


def test_all_are_told(top: Path) -> None:
    rows = {row.cluster: row for row in call(top, "list")}
    assert rows["other"] == ListedCluster(
        "other", "not running", "local", "debian12", {"head": 1, "compute": 2}, 1280, "no verdict"
    )
    assert rows["mine"].state == "broken" and "mine.toml:2: head.cpus: 0 is out of range" in rows["mine"].told
    assert rows["debian12-xen"].host == "debian12"
    text = Table((rows["other"],)).text()
    assert text == "other  not running  local  debian12  1 head, 2 compute  1280 MiB  no verdict"
