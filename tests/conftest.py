"""For all tests: units first, then what is slow, then what boots machines."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

TOP = Path(__file__).resolve().parents[1]

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


@pytest.fixture(scope="session")
def toolroot() -> None:
    """The tool root, made as every run makes it; nothing is done where it is up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "doit", "toolroot:amd64"], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
