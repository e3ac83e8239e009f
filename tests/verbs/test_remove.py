"""Nodes leave a recipe and the cluster: the last ones, asked for, with what of them is kept or not, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster.records import Notes
from pipeline.errors import ClusterError, ManifestError, NotNow, NotThere, UserError
from pipeline.manifests.recipes import load
from pipeline.verbs.remove import Removed
from tests.verbs.conftest import RECIPE
from tests.verbs.lab import Lab


def recipe(lab: Lab) -> str:
    return (lab.recipes / "clusters/one.toml").read_text()


def defined(lab: Lab) -> list[str]:
    return sorted(one.name() for one in lab.connection.raw.listAllDomains() if one.name().startswith("one-"))


def keep(lab: Lab, disk: str) -> Path:
    file = lab.run.parent / f"kept/one/{disk}.img"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("data")
    return file


def test_the_last_ones_go(written: Lab) -> None:
    notes = Notes(written.folder)
    notes.add("installed/node3")
    rows = written.vm("remove", "one", "node[2-3]", "--yes")
    assert rows == [Removed("one", "node2", True, (), ()), Removed("one", "node3", True, (), ())]
    assert recipe(written) == RECIPE.replace("count = 3", "count = 1")
    assert defined(written) == ["one-head", "one-node1"]
    assert not notes.has("installed/node3")
    assert notes.has("begun/node3"), "one that comes back meanwhile is made anew"
    with pytest.raises(NotThere, match="there is no machine 'node3'"):
        lab_without(written, "node3").vm("remove", "one", "node3", "--yes")


def lab_without(lab: Lab, *_: str) -> Lab:
    """The next run has told everybody."""
    lab.cluster = load(lab.recipes).describe("one")
    return lab


def test_one_in_the_middle_stays(written: Lab) -> None:
    with pytest.raises(ManifestError, match=r"one\.toml: node2 is not the last of its membership") as caught:
        written.vm("remove", "one", "node2", "--yes")
    assert caught.value.hint.startswith("the last ones are node2 node3; ")
    assert recipe(written) == RECIPE and len(defined(written)) == 4


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("head",), NotNow, "head is the head node"),
        (("node*",), ManifestError, r"one\.toml:\d+: compute\.count: 0 is out of range; expected at least 1"),
        (("node4",), NotThere, "there is no machine 'node4'"),
        (("nod3",), NotThere, "there is no machine 'nod3'"),
    ],
)
def test_what_cannot_go(written: Lab, words: tuple[str, ...], kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message):
        written.vm("remove", "one", *words, "--yes")
    assert recipe(written) == RECIPE and len(defined(written)) == 4


def test_nobody_has_agreed(written: Lab) -> None:
    keep(written, "node3.home")
    with pytest.raises(
        NotNow, match="in memory and on the disks of node3 would be lost, and what is on the kept disks node3"
    ):
        written.vm("remove", "one", "node3", "--disks")
    assert recipe(written) == RECIPE and len(defined(written)) == 4


def test_kept_disks_stay_or_go(written: Lab) -> None:
    """Rocks' `remove host vm` never took the image, and did not say so."""
    files = [keep(written, disk) for disk in ("node3.home", "node3.data", "node2.home")]
    (row,) = written.vm("remove", "one", "node3", "--yes")
    assert row.kept == ("node3.data", "node3.home") and all(file.exists() for file in files)
    assert row.text().endswith("kept disks stay: node3.data, node3.home (--disks removes them)")
    (row,) = lab_without(written).vm("remove", "one", "node3", "--disks", "--yes")
    assert row == Removed("one", "node3", True, ("node3.data", "node3.home"), ())
    assert [file.exists() for file in files] == [False, False, True]


def test_one_that_does_not_run_leaves_the_recipe(written: Lab) -> None:
    written.here.up = False
    (row,) = written.vm("remove", "one", "node3", "--yes")
    assert not row.ended and "count = 2" in recipe(written)


def test_killed_between_recipe_and_machine(written: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise ClusterError("no answer")

    file = keep(written, "node3.home")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.cluster.runner.Runner.take_away", dies)
        (error,) = written.vm("remove", "one", "node3", "--disks", "--yes")
    assert "the recipe has them no longer, but: no answer" in error.message and error.hint == "then the same once more"
    assert "count = 2" in recipe(written) and len(defined(written)) == 4 and file.exists()
    (row,) = written.vm("remove", "one", "node3", "--disks", "--yes")
    assert row == Removed("one", "node3", True, ("node3.home",), ())
    assert len(defined(written)) == 3 and not file.exists()


def test_who_extends_it_is_told_and_may_be_in_the_way(written: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    like = written.recipes / "clusters/like.toml"
    like.write_text('extends = "one"\n[machines.node3]\ncpus = 2\n')
    with pytest.raises(ManifestError, match=r"like\.toml:2: machines\.node3: there is no machine \"node3\""):
        written.vm("remove", "one", "node3", "--yes")
    assert recipe(written) == RECIPE
    like.write_text('extends = "one"\n')
    written.vm("remove", "one", "node3", "--yes")
    assert "like: changed as well, for they extend one" in capsys.readouterr().err


def test_a_copy_has_no_recipe(written: Lab) -> None:
    written.copy_of = "other"
    with pytest.raises(NotNow, match="one is a copy of other"):
        written.vm("remove", "one", "node3", "--yes")
