"""What comes to a cluster that runs is found out as a plan finds it out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline.cluster.adding import differences, packages_that_came, require_one_architecture
from pipeline.errors import ManifestError, NotNow, NotThere
from pipeline.manifests.recipes import Recipes, load
from pipeline.packages.lock import LockedPackage
from pipeline.plan import added
from tests.boot import latecomers
from tests.boot.checkout import TOP


@pytest.fixture
def recipes(tmp_path: Path) -> Recipes:
    shutil.copytree(TOP / "recipes", tmp_path / "recipes")
    for cluster in (tmp_path / "recipes/clusters").iterdir():
        if cluster.name not in ("debian12.toml", "rocky9.toml"):
            cluster.unlink()
    (tmp_path / "recipes/clusters/small.toml").write_text('extends = "debian12"\nopkgs = ["base", "sis"]\n')
    latecomers.write(tmp_path / "recipes/opkgs")
    return load(tmp_path / "recipes")


def spoil(recipes: Recipes, opkg: str, old: str, new: str) -> Recipes:
    """Other recipes, with an OPKG changed."""
    file = recipes.folder / "opkgs" / opkg / "config.xml"
    file.write_text(file.read_text().replace(old, new))
    return load(recipes.folder)


def test_what_it_requires_comes_before_it(recipes: Recipes) -> None:
    have = recipes.cluster("small").opkgs
    assert recipes.joined("small", ["late"]) == (*have, "early", "late")
    assert recipes.joined("small", ["slurm", "late"]) == (*have, "munge", "slurm", "early", "late")
    assert recipes.chains("late", have) == {"early": ("late", "early")}
    assert recipes.chains("slurm", have)["munge"] == ("slurm", "munge")


def test_what_does_not_go_together_is_told_with_its_chain(recipes: Recipes) -> None:
    spoiled = spoil(recipes, "early", "<commonDeps>", "<conflicts><pkg>sis</pkg></conflicts><commonDeps>")
    with pytest.raises(ManifestError, match=r'"early" conflicts with "sis" \(late -> early\)'):
        spoiled.joined("small", ["late"])
    with pytest.raises(NotThere, match="there is no OPKG 'lat'"):
        recipes.joined("small", ["lat"])


@pytest.mark.parametrize("cluster", ["debian12", "rocky9"])
def test_packages_are_found_on_top_of_all_that_machines_have(recipes: Recipes, cluster: str) -> None:
    plan = planning.make(recipes)
    steps = added.steps(recipes, plan.clusters[cluster], plan.made[cluster], "early")
    assert list(steps) == ["head", "compute"]
    locked, fetched = steps["compute"]
    assert dict(locked.params["packages"]) == {"hello": "OPKG early"}
    bases = [parent.task for parent in locked.parents if parent.role == "base"]
    assert bases == [f"lock:{cluster}", f"lock:{cluster}/compute"]
    assert [parent.task for parent in fetched.parents] == [locked.task]
    assert locked.maker == plan.steps[f"lock:{cluster}"].maker


def test_how_it_differs_from_a_clean_cluster_is_told(recipes: Recipes) -> None:
    early, late = (recipes.opkg(name) for name in ("early", "late"))
    assert [text.partition(" ")[0] for text in differences("ci", [early])] == ["nodes", "services"]
    told = list(differences("ci", [early, late]))
    assert 'add "early", "late" to opkgs in recipes/clusters/ci.toml' in told[0]
    assert told[1].startswith("api-post-image of OPKG late was left out")


def test_packages_that_a_recipe_asks_for_no_more_are_still_known() -> None:
    had = {"head": {"x": "1", "y": "1"}, "login": {"z": "1"}}
    now = {"head": {"y": "2"}, "compute": {"w": "1"}}
    assert packages_that_came(had, now) == {"head": {"x": "1", "y": "2"}, "login": {"z": "1"}, "compute": {"w": "1"}}


def test_a_package_comes_for_one_architecture() -> None:
    tool, same, other = (
        LockedPackage(name, "", "1", "1", architecture, "", "", 0, "", "")
        for name, architecture in (("tool", "x86_64"), ("lib", "x86_64"), ("lib", "i386"))
    )
    require_one_architecture("fc4", "mine", [tool], [same, other])
    for come, have in (([tool, other], [same]), ([same, other], [tool])):
        with pytest.raises(NotNow, match=r"OPKG mine needs .*lib\.i386 besides"):
            require_one_architecture("fc4", "mine", come, have)
