"""A cluster goes with its recipe and all that is kept of it but its disks; what others need stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cluster import described
from pipeline.description import Host
from pipeline.errors import NotNow, NotThere
from pipeline.hosts import namespace
from pipeline.verbs.clusters.remove import Gone
from tests.samples import cluster
from tests.verbs.clusters.conftest import call


@pytest.fixture
def running(top: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The cluster `other` seems to run: this is its first process."""
    with subprocess.Popen(["unshare", "--net", "sleep", "600"]) as process:
        run_dir = top / "artifacts/run/other"
        run_dir.mkdir(parents=True)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        (run_dir / "init.pid").write_text(f"{process.pid} {namespace._start_time(process.pid)} {boot}\n")
        described.write(run_dir, cluster("other"), Host("local", "qemu", "private"))
        yield process
        process.kill()


def recipe(top: Path, name: str) -> Path:
    return top / f"recipes/clusters/{name}.toml"


def kept(top: Path) -> Path:
    file = top / "artifacts/kept/other/node1.home.img"
    file.parent.mkdir(parents=True)
    file.write_text("data")
    return file


def test_one_that_runs_is_ended(top: Path, running: subprocess.Popen[bytes]) -> None:
    file = kept(top)
    assert [row.state for row in call(top, "list") if row.cluster == "other"] == ["running"]
    with pytest.raises(NotNow, match="its machines, which run, and the recipe of other would go"):
        call(top, "remove", "other")
    assert running.poll() is None and recipe(top, "other").exists()
    for kind in ("identity", "reports", "frozen"):
        for name in ("other", "debian12"):
            (top / "artifacts" / kind / name / "x").mkdir(parents=True)
    (row,) = call(top, "remove", "other", "--yes")
    assert row == Gone("other", True, (), ("node1.home",))
    assert running.wait(10) == -9
    assert not recipe(top, "other").exists() and file.exists()
    assert [path.parent.name for path in (top / "artifacts").glob("*/*/x")] == 3 * ["debian12"]
    assert [path for path in (top / "artifacts").glob("*/other") if path != file.parent] == []
    with pytest.raises(NotThere, match="there is no cluster 'other'"):
        call(top, "remove", "other", "--yes")


def test_killed_before_the_recipe_went_it_is_repeated(
    top: Path, running: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kept(top)

    def dies(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            call(top, "remove", "other", "--disks", "--yes")
    assert running.wait(10) == -9 and recipe(top, "other").exists()
    (row,) = call(top, "remove", "other", "--disks", "--yes")
    assert row == Gone("other", False, ("node1.home",), ())
    assert not recipe(top, "other").exists() and not file.parent.exists()


def test_others_extend_it(top: Path) -> None:
    with pytest.raises(NotNow, match="debian12-xen, debian13, mine, other extend debian12"):
        call(top, "remove", "debian12", "--yes")
    assert recipe(top, "debian12").exists()


def test_a_broken_one_goes(top: Path) -> None:
    (top / "artifacts/identity/mine").mkdir(parents=True)
    with pytest.raises(NotNow, match="the recipe of mine cannot be read, which says where its disks are"):
        call(top, "remove", "mine", "--disks", "--yes")
    (row,) = call(top, "remove", "mine", "--yes")
    assert row == Gone("mine", False, (), ()) and not recipe(top, "mine").exists()
    assert not (top / "artifacts/identity/mine").exists()


@pytest.mark.parametrize("name", ["nope", "../clusters/other", ""])
def test_there_is_none(top: Path, name: str) -> None:
    with pytest.raises(NotThere):
        call(top, "remove", name, "--yes")
