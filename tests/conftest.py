"""For all tests: units first, then what is slow, then what boots machines."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What fails in a second must not wait for what takes minutes."""
    items.sort(key=lambda item: 2 * bool(item.get_closest_marker("boot")) + bool(item.get_closest_marker("slow")))
