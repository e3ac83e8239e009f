"""For all tests: units first, then what is slow, then what boots machines."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

#: A busy machine is no failure: what takes long is seen by the limits on whole test runs.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# What is ignored here (under nohup, in the background) would be ignored by all that is tested.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What fails in a second must not wait for what takes minutes."""
    items.sort(key=lambda item: 2 * bool(item.get_closest_marker("boot")) + bool(item.get_closest_marker("slow")))
