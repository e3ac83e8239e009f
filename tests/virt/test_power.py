"""Calls to libvirt that do not come back: a hypervisor that hangs is told, whatever one asks of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.errors import ClusterError
from pipeline.virt import power
from pipeline.virt.connection import Connection


class Deaf:
    """A libvirt with one machine, of which every call that does something hangs until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.raw = self

    def domain(self, name: str) -> Deaf:
        return self

    def defineXML(self, definition: str) -> Deaf:
        return self

    def create(self) -> None:
        self.over.wait()

    destroy = suspend = resume = create


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    made = Deaf()
    yield made
    made.over.set()


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda connection, path: power.start(connection, "<domain><name>one-node1</name></domain>", report=path),
            "it is not started",
        ),
        (lambda connection, path: power.start_again(connection, "one-node1", report=path), "it is not started"),
        (lambda connection, path: power.destroy(connection, ["one-node1"]), "it is not ended"),
        (lambda connection, path: power.pause(connection, "one-node1"), "it is not paused"),
        (lambda connection, path: power.resume(connection, "one-node1"), "it does not go on"),
    ],
)
def test_no_call_waits_for_ever(
    deaf: Deaf, act: Callable[[Connection, Path], None], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "_MADE", 0.1)
    monkeypatch.setattr(power, "_AT_ONCE", 0.1)
    with pytest.raises(ClusterError, match=f"^one-node1: {message} after 0.1 s"):
        act(cast(Any, deaf), tmp_path / "report")
