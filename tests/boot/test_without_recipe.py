"""A cluster that runs, and whose recipe is broken or gone: it is seen and ended by the real commands."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import described
from pipeline.description import Host
from pipeline.hosts import namespace
from tests.boot import checkout
from tests.boot.checkout import Checkout
from tests.samples import cluster

pytestmark = pytest.mark.boot


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Checkout]:
    """A checkout in which a cluster `gone` runs: its networks and its libvirt, for machines take longer."""
    made = checkout.copy(tmp_path / "project", tmp_path / "project" / "artifacts")
    run_dir = made.artifacts / "run" / "gone"
    run_dir.mkdir(parents=True)
    namespace.start(run_dir, cluster("gone").networks, cache=tmp_path / "cache")
    try:
        described.write(run_dir, cluster("gone"), Host("local", "qemu", "private"))
        yield made
    finally:
        namespace.stop(run_dir)


@pytest.mark.parametrize("recipe", ["", "x = 1", 'extends = "debian12"\ncompute.prefix = "other"\n'])
def test_a_cluster_is_seen_and_ended_without_its_recipe(project: Checkout, recipe: str) -> None:
    def doit(*words: str) -> subprocess.CompletedProcess[str]:
        return project.run(project.command(*words), timeout=300)

    if recipe:
        project.write_cluster("gone", recipe)
    assert "gone: not running; " in doit("status").stdout  # its libvirt has no machine yet
    assert "gone" not in doit("vm", "list").stderr
    assert "node2 is not installed yet" in doit("vm", "start", "gone", "node2").stderr
    assert "node2 has not run yet" in doit("console", "gone", "node2").stderr
    for command in ("ssh", "console", "inspect"):
        assert "there is no machine 'node3'" in doit(command, "gone", "node3").stderr
    assert namespace.alive(project.artifacts / "run" / "gone")
    stopped = doit("stop:gone")
    assert stopped.returncode == 0, stopped.stderr
    assert namespace.alive(project.artifacts / "run" / "gone") is None
    assert "Traceback" not in stopped.stdout + stopped.stderr
