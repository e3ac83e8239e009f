"""The task graph of a checkout: what is broken stops only what needs it, and can be seen, named and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cluster import described
from pipeline.description import Host
from pipeline.errors import ClusterError, ManifestError, UserError
from pipeline.hosts import namespace
from pipeline.tasks import Graph
from tests import debpackages
from tests.boot import checkout
from tests.samples import cluster

WRONG = 'extends = "debian12"\n\nhead.cpus = 0\nhead.memory = 5\n'
LOCAL = Host("local", "qemu", "private")


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout in which `mine` is broken and `other` is not."""
    monkeypatch.delenv("XEN_OSCAR_ARTIFACTS", raising=False)
    made = checkout.copy(tmp_path / "project", tmp_path / "project" / "artifacts")
    made.write_cluster("mine", WRONG)
    made.write_cluster("other", 'extends = "debian12"\n')
    monkeypatch.chdir(made.folder)
    return made.folder


def doit(top: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "doit", *words], cwd=top, capture_output=True, text=True, check=False, timeout=120
    )


def booted(top: Path, name: str) -> Path:
    """The run folder of a cluster that seems to run: its first process is this one."""
    run_dir = top / "artifacts" / "run" / name
    run_dir.mkdir(parents=True)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (run_dir / "init.pid").write_text(f"{os.getpid()} {namespace._start_time(os.getpid())} {boot}\n")
    described.write(run_dir, cluster(name), LOCAL)
    return run_dir


def test_a_broken_recipe_is_seen_in_the_list_and_told_by_its_task(top: Path) -> None:
    listed = doit(top, "list", "--all")
    mistake = "recipes/clusters/mine.toml:3: head.cpus: 0 is out of range; expected at least 1"
    assert (listed.returncode, listed.stderr) == (
        0,
        f"warning: {mistake} (2 mistakes; so nothing is made of clusters/mine)\n",
    )
    assert [line.split(None, 1)[1] for line in listed.stdout.splitlines() if line.startswith("cluster:mine ")] == [
        f"cannot be made: {mistake}"
    ]
    assert "verify:other" in listed.stdout and "verify:mine" not in listed.stdout
    done = doit(top, "cluster:mine")
    assert (done.returncode, done.stdout.count(mistake)) == (1, 2)  # as the reason for the failure, and to everybody
    assert "mine.toml:4: head.memory: 5 is not a size" in done.stdout


@pytest.mark.parametrize("words", [("disk:mine/head",), ("why", "boot:mine"), ("ssh", "mine"), ("vm", "list", "mine")])
def test_whoever_names_what_is_broken_is_told_its_mistakes(top: Path, words: tuple[str, ...]) -> None:
    done = doit(top, *words)
    assert done.returncode == 1
    assert "clusters/mine.toml:3: head.cpus" in done.stderr and "clusters/mine.toml:4: head.memory" in done.stderr
    assert "did you mean cluster" not in done.stderr and "Traceback" not in done.stderr


def test_what_is_not_broken_goes_on_and_tells_it_in_one_line(top: Path) -> None:
    done = doit(top, "stop:other")
    assert done.returncode == 0
    assert done.stdout.count("mine.toml") == 1
    assert doit(top, "vm", "list").stdout == "no cluster runs\n"
    told = doit(top, "status").stdout
    assert "mine: not running; its recipe cannot be read: recipes/clusters/mine.toml:3: head.cpus" in told
    assert "other: not running; " in told


def test_names_that_doit_takes_for_something_else_are_told_all_the_same(top: Path) -> None:
    (top / "recipes/clusters/mine.toml").rename(top / "recipes/clusters/a=b*.toml")
    listed = doit(top, "list")
    assert (listed.returncode, listed.stderr.count("a=b*.toml:1: the file's name is no name")) == (0, 1)


def test_a_broken_recipe_is_told_at_each_run_and_until_it_is_mended(top: Path) -> None:
    (top / "recipes/clusters/mine.toml").write_text(
        'extends = "debian12"\n[packages]\nhead = ["../../mine_1.0_all.deb"]\n'
    )
    for _ in range(2):
        assert "mine_1.0_all.deb" in Graph(top).plan.broken["clusters/mine"]
    debpackages.make(top, "mine")  # of which no plan without the cluster knows
    assert Graph(top).plan.broken == {}


def test_a_cluster_that_runs_is_what_was_booted_whatever_became_of_its_recipe(top: Path) -> None:
    for name in ("mine", "other", "gone"):
        booted(top, name)
    graph = Graph(top)
    assert graph.booted() == ["gone", "mine", "other"]
    for name in graph.booted():
        assert graph.running(name).cluster == cluster(name), name
    (top / "artifacts/run/other/init.pid").unlink()  # it has ended: what counts is the recipe
    assert graph.running("other").cluster.opkgs != ()
    assert graph.lifecycle("other").cluster.opkgs != ()
    (top / "artifacts/run/gone/init.pid").unlink()  # what is left of it can still be looked at
    assert graph.running("gone").cluster == cluster("gone")


def test_there_is_a_task_to_end_whatever_may_run(top: Path) -> None:
    booted(top, "gone")
    booted(top, "testbed-away")
    stops = {task["name"]: task["doc"] for task in Graph(top).stops("").create_doit_tasks()}
    assert stops["gone"] == "end the cluster gone: machines, networks, daemons"
    assert stops["mine"] == "end the cluster mine: machines, networks, daemons"
    assert stops["testbed-away"] == "end the testbed away, and all clusters on it"
    assert set(stops) >= {"other", "debian12", "testbed-debian12"}
    assert doit(top, "stop:mine").returncode == 0  # nothing of it runs


def test_words_that_are_typed_are_no_paths(top: Path) -> None:
    booted(top, "gone")
    for word in ("../run/gone", "gone/", ".", "..", ""):
        with pytest.raises(UserError, match="there is no cluster"):
            Graph(top).running(word)


def test_a_description_of_another_version_is_told_where_nothing_else_is_known(top: Path) -> None:
    for name in ("gone", "other"):
        (booted(top, name) / "cluster.json").write_text('{"schema": 99, "cluster": {}}')
    with pytest.raises(ClusterError, match=r"gone was booted by another version of this project: .*schema 99"):
        Graph(top).running("gone")
    assert Graph(top).running("other").cluster.opkgs != ()


def test_mistakes_of_one_recipe_in_all_that_need_it_are_one_line(top: Path) -> None:
    (top / "recipes/clusters/mine.toml").unlink()
    distro = top / "recipes/distros/debian12.toml"
    distro.write_text(distro.read_text().replace('family = "deb"', 'family = "dep"'))
    graph = Graph(top)
    (told,) = graph.plan.told()
    assert told.endswith(
        " (so nothing is made of distros/debian12, hosts/debian12, clusters/debian12, "
        "clusters/debian12-xen, clusters/fc4-xen, clusters/oscar, clusters/other)"
    )
    assert set(graph.plan.clusters) == {"debian13", "fc4", "fc4-i386", "rocky9"}
    with pytest.raises(ManifestError, match=r"^recipes/distros/debian12\.toml:\d+: family"):
        graph.lifecycle("debian12")
