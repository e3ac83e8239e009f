"""What tests of installing share: a real root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.namespaced import inside
from tests.packages.deb import realroot


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the layers of a real, small root (`realroot.stack`)."""
    folder = tmp_path_factory.mktemp("real")
    realroot.fetch(folder)
    inside(realroot.build, folder, "first")
    return folder
