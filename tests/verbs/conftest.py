"""A cluster on libvirt's test driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.manifests.recipes import load
from tests.manifests.conftest import write_recipes
from tests.verbs.lab import Lab, lab, sample

RECIPE = """\
# Three nodes.
distro = "debian12"

[compute]
count = 3
memory = "512M"   # for jobs
cpus = 4
"""


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lab]:
    """A head node and two compute nodes, all running."""
    with lab(sample("one", 2), tmp_path / "one") as made:
        yield made


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Lab]:
    """A head node and three compute nodes with a recipe, all running."""
    run = tmp_path / "run"
    folder = write_recipes(run / "recipes", {"clusters/one.toml": RECIPE})
    (run / "one").mkdir()
    with lab(load(folder).describe("one"), run / "one") as made:
        yield made
