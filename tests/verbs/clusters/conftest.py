"""A checkout with clusters, on which verbs are called as their command does."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.columns import Table
from pipeline.errors import UserError
from pipeline.tasks import Graph
from pipeline.verbs.clusters import verbs
from tests.boot import checkout


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which `mine` is broken and `other` is not."""
    monkeypatch.delenv("XEN_OSCAR_ARTIFACTS", raising=False)
    made = checkout.copy(tmp_path / "project", tmp_path / "project" / "artifacts")
    made.write_cluster("mine", 'extends = "debian12"\nhead.cpus = 0\n')
    made.write_cluster("other", 'extends = "debian12"\n')
    monkeypatch.chdir(made.folder)
    return made.folder


def call(top: Path, verb: str, *words: str) -> list[Any]:
    """What `doit cluster VERB WORDS` tells, row by row."""
    parser = argparse.ArgumentParser()
    verbs()[verb].arguments(parser)
    told: list[Any] = []
    for row in verbs()[verb].rows(Graph(top), parser.parse_args(list(words))):
        told += row.lines if isinstance(row, Table) else [row]
    assert not [row for row in told if not isinstance(row, UserError) and not json.dumps(dataclasses.asdict(row))]
    return told
