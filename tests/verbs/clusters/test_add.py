"""The recipe of a new cluster: whole, checked before it is there, never over another one."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ManifestError, NotNow, UserError, WrongUse
from pipeline.hosts import memory
from pipeline.manifests.recipes import load
from tests.verbs.clusters.conftest import call

RECIPE = """\
#:schema ../schema/cluster.json
extends = "debian12"

[head]
memory = "1G"
cpus = 2

[compute]
count = 4
memory = "512M"
"""
WORDS = ("--extends", "debian12", "--nodes", "4", "--memory", "512M", "--head-memory", "1G", "--head-cpus", "2")


def files(top: Path) -> list[str]:
    return sorted(path.name for path in (top / "recipes/clusters").iterdir())


def test_it_is_written(top: Path) -> None:
    """With what Rocks' `add cluster` could not say: the front end's memory and processors."""
    (row,) = call(top, "add", "new", *WORDS)
    assert (row.written, row.host, row.distro, row.memory_mib) == (True, "local", "debian12", 3072)
    assert row.machines == {"head": 1, "compute": 4} and row.free_mib > 0
    assert (top / row.file).read_text() == row.recipe == RECIPE
    described = load(top / "recipes").describe("new")
    assert (described.head.memory_mib, described.head.cpus, len(described.nodes)) == (1024, 2, 4)


def test_a_dry_run_writes_nothing(top: Path) -> None:
    before = files(top)
    (row,) = call(top, "add", "new", *WORDS, "--dry-run")
    assert (row.written, row.text()) == (False, RECIPE.rstrip("\n"))
    assert files(top) == before


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("other", "--distro", "debian12"), NotNow, r"clusters/other\.toml is there already"),
        (("mine", "--distro", "debian12"), NotNow, r"clusters/mine\.toml is there already"),
        (("../new", "--distro", "debian12"), WrongUse, r"'\.\./new' is no name of a cluster"),
        (("run", "--distro", "debian12"), WrongUse, '"run" is a folder of artifacts/ already'),
        (("new", "--extends", "debian21"), ManifestError, r'new\.toml:2: extends: "debian21" is not known'),
        (("new", "--extends", "mine"), ManifestError, r"mine\.toml:2: head\.cpus: 0 is out of range"),
        (("new", "--distro", "nope"), ManifestError, r'new\.toml:2: distro: "nope" is not in'),
        (("new", "--distro", "debian12", "--host", "nope"), ManifestError, r'new\.toml:3: host: "nope" is not in'),
        (("new", "--distro", "debian12", "--nodes", "0"), ManifestError, r"new\.toml:5: compute\.count: 0 is out of"),
        (("new", "--distro", "debian12", "--head-memory", "1"), ManifestError, r'head\.memory: "1" is not a size'),
    ],
)
def test_what_is_refused(top: Path, words: tuple[str, ...], kind: type[UserError], message: str) -> None:
    before = files(top)
    with pytest.raises(kind, match=message):
        call(top, "add", *words)
    assert files(top) == before


def test_machines_that_would_be_called_as_others_on_its_host(top: Path) -> None:
    (top / "recipes/clusters/a.toml").write_text('extends = "debian12"\nhost = "debian12"\ncompute.prefix = "b-node"\n')
    (top / "recipes/clusters/base.toml").write_text('extends = "debian12"\nmachines.node2.mac = "52:54:00:00:00:01"\n')
    before = files(top)
    with pytest.raises(ManifestError, match="node1 would be called a-b-node1 on debian12, as b-node1 of a is"):
        call(top, "add", "a-b", "--extends", "debian12-xen")
    assert files(top) == before
    call(top, "add", "one", "--extends", "base", "--host", "debian12")
    call(top, "add", "here", "--extends", "base")  # a private place has MACs of its own
    with pytest.raises(ManifestError, match=r"two\.toml:1: node2 would have the MAC 52:54:00:00:00:01 on debian12"):
        call(top, "add", "two", "--extends", "base", "--host", "debian12")


def test_too_little_memory_is_told(top: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "available_mib", lambda: 1000)
    (row,) = call(top, "add", "new", *WORDS)
    assert row.free_mib == 1000
    told = "warning: memory is short: its machines have 3072 MiB, 1000 MiB are free on local"
    assert told in capsys.readouterr().err


def test_a_host_that_does_not_answer(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = call(top, "add", "new", "--extends", "debian12-xen")
    assert row.free_mib is None and row.written
    assert "warning: whether there is memory for it is not known: " in capsys.readouterr().err


def test_disks_of_an_earlier_one_are_told(top: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (top / "artifacts/kept/new").mkdir(parents=True)
    (top / "artifacts/kept/new/node1.home.img").write_text("old")
    call(top, "add", "new", *WORDS)
    assert "disks of an earlier new were kept: node1.home" in capsys.readouterr().err


def _add(top: Path, number: int, told: Any) -> None:
    try:
        call(top, "add", "new", "--distro", "debian12", "--nodes", str(number))
        told.put(number)
    except NotNow:
        told.put(0)


def test_of_several_at_once_one_is_first(top: Path) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    runs = [context.Process(target=_add, args=(top, number, told)) for number in range(1, 6)]
    for run in runs:
        run.start()
    numbers = [told.get(timeout=120) for _ in runs]
    for run in runs:
        run.join(60)
    (first,) = [number for number in numbers if number]
    assert len(load(top / "recipes").describe("new").nodes) == first
    assert [name for name in files(top) if name.startswith(".")] == []


def test_the_command_and_the_group_of_tasks(top: Path) -> None:
    """`doit cluster VERB` is a command, all else that begins so are tasks."""

    def doit(*words: str) -> tuple[int, str]:
        argv = [sys.executable, "-m", "doit", *words]
        done = subprocess.run(argv, cwd=top, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout + done.stderr

    assert doit("cluster", "add", "new", *WORDS, "--dry-run")[1].endswith(f"{RECIPE}")
    assert "usage: doit cluster" in doit("cluster", "--help")[1]
    status, said = doit("cluster", "stat")
    assert status == 3 and "there is no task 'stat'" in said
    status, said = doit("cluster", "cluster:nope")
    assert status == 3 and "there is no task 'cluster:nope'" in said
