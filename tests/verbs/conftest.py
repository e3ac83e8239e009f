"""A cluster on libvirt's test driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.verbs.lab import Lab, lab, sample


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Lab]:
    """A head node and two compute nodes, all running."""
    with lab(sample("one", 2), tmp_path) as made:
        yield made
