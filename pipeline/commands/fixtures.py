"""What tests that `doit test` runs get: a plug-in of pytest with the fixtures `head` and `nodes`.

def test_jobs_run_on_all_nodes(head, nodes):
    assert sorted(head.run(f"srun -N{len(nodes)} hostname").split()) == [node.name for node in nodes]
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pipeline.shell import ClusterShell

#: Seconds that a command may take where a test says nothing else.
_USUAL = 600


@dataclass(frozen=True)
class Done:
    """What became of a command."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Machine:
    """A machine of the copy."""

    name: str
    shell: ClusterShell

    def run(self, script: str, *, user: str = "root", timeout: float = _USUAL) -> str:
        """What POSIX sh text prints that ends well; the test fails where it does not."""
        done = self.attempt(script, user=user, timeout=timeout)
        if done.status != 0:
            pytest.fail(f"{self.name}: exit status {done.status}: {script}\n{done.stdout}{done.stderr}")
        return done.stdout

    def attempt(self, script: str, *, user: str = "root", timeout: float = _USUAL) -> Done:
        """The same, however it ends."""
        return Done(*self.shell.run(self.name, script, user=user, timeout=timeout))


@pytest.fixture(scope="session")
def _shell() -> Iterator[ClusterShell]:
    from pipeline.tasks import Graph

    shell = Graph(Path(os.environ["XEN_OSCAR_TOP"])).running(os.environ["XEN_OSCAR_COPY"]).shell()
    with shell.connected():
        yield shell


@pytest.fixture(scope="session")
def head(_shell: ClusterShell) -> Machine:
    """The head node."""
    return Machine(_shell.cluster.head.name, _shell)


@pytest.fixture(scope="session")
def nodes(_shell: ClusterShell) -> list[Machine]:
    """The compute nodes, in order."""
    return [Machine(node.name, _shell) for node in _shell.cluster.nodes]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to each copy its part of the tests."""
    number, count = map(int, os.environ["XEN_OSCAR_PART"].split("/"))
    others = [item for place, item in enumerate(items) if place % count != number]
    if others:
        items[:] = [item for place, item in enumerate(items) if place % count == number]
        config.hook.pytest_deselected(items=others)
