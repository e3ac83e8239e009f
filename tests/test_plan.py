"""The plan: from recipes alone, every step with its inputs; a change reaches what depends on it and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline.manifests.recipes import load
from pipeline.step import Plan, Step
from pipeline.tasks import load_plan
from tests import debpackages

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planning.make(load(RECIPES))


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECIPES, tmp_path / "recipes", symlinks=True))


def changed(before: Plan, after: Plan) -> set[str]:
    """The tasks whose own recipe differs; what is made from them follows by keys."""
    return {task for task, step in after.steps.items() if before.steps.get(task) != step}


def test_every_input_is_a_step_and_there_is_no_circle(plan: Plan) -> None:
    for step in plan.steps.values():
        assert all(parent.task in plan.steps for parent in step.parents), step.task
    assert len(plan.below(plan.steps)) == len(plan.steps)


@pytest.mark.parametrize("task", [
    "lock:debian12", "fetch:debian12", "root:debian12", "headnode:debian12", "image:debian12", "netboot:amd64",
    "disk:debian12/head", "disk:debian12/node1", "vmconfig:debian12", "verify:debian12", "headnode:debian13",
    "xltools:debian12", "xenconfig:debian12", "kernel:debian12", "vmconfig:debian12-xen",
])
def test_artifacts_have_the_names_that_people_use(plan: Plan, task: str) -> None:
    assert task in plan.steps


def test_planning_twice_gives_the_same_plan(plan: Plan) -> None:
    assert planning.make(load(RECIPES)) == plan


def test_configurations_are_checked_with_the_xl_that_is_nearest(recipes: Path) -> None:
    def tools(cluster: str) -> list[str]:
        return [parent.task for parent in planning.make(load(recipes)).steps[f"xenconfig:{cluster}"].parents]

    assert (tools("debian12"), tools("debian13")) == (["xltools:debian12"], ["xltools:debian13"])
    for distro, left in (("debian13", ["xltools:debian12"]), ("debian12", [])):
        manifest = recipes / "distros" / f"{distro}.toml"
        text = manifest.read_text()
        manifest.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("xl = ")))
        assert tools("debian13") == left


def test_netboot_does_not_depend_on_the_distribution_of_a_cluster(plan: Plan) -> None:
    below = plan.below(["netboot:amd64"])
    assert not [task for task in below if task.endswith(("/head", "/compute"))]
    assert "netboot:amd64" in plan.below(["image:debian12"]) and "netboot:amd64" in plan.below(["image:debian13"])


def test_only_steps_that_fetch_reach_the_network(plan: Plan) -> None:
    assert {step.kind for step in plan.steps.values() if step.network} == {"index", "fetch"}


def test_a_file_for_the_head_node_leaves_the_compute_side_alone(plan: Plan, recipes: Path) -> None:
    (recipes / "opkgs/ganglia/files/server/etc").mkdir(parents=True, exist_ok=True)
    (recipes / "opkgs/ganglia/files/server/etc/motd").write_text("hello\n")
    assert changed(plan, planning.make(load(recipes))) == {"opkgs:debian12/head", "opkgs:debian12-xen/head"}


def test_a_package_of_an_opkg_is_locked_on_its_side_only(plan: Plan, recipes: Path) -> None:
    config = recipes / "opkgs/ganglia/config.xml"
    config.write_text(config.read_text().replace("</clientDeps>", "<requires><pkg>tree</pkg></requires></clientDeps>"))
    after = changed(plan, planning.make(load(recipes)))
    assert "lock:debian12/compute" in after
    assert "lock:debian12" not in after and "root:debian12" not in after and "lock:debian12/head" not in after


def test_one_more_node_asks_for_one_more_disk(plan: Plan, recipes: Path) -> None:
    cluster = recipes / "clusters/debian12.toml"
    cluster.write_text(cluster.read_text().replace("count = 2", "count = 3"))
    after = changed(plan, planning.make(load(recipes)))
    assert "disk:debian12/node3" in after
    assert not after & {"lock:debian12/head", "packages:debian12/compute", "disk:debian12/node1", "root:debian12"}


def test_a_package_under_test_gets_a_layer_of_its_own(plan: Plan, recipes: Path) -> None:
    debpackages.make(recipes / "clusters", "mine")
    (recipes / "clusters/mine.toml").write_text('extends = "debian12"\n[packages]\nhead = ["mine_1.0_all.deb"]\n')
    after = planning.make(load(recipes))
    layers = [parent.task for parent in after.steps["opkgs:mine/head"].parents]
    assert layers == ["root:debian12", "initrd:debian12", "packages:mine/head", "localpackages:mine/head"]
    assert "localpackages:mine/compute" not in after.steps


def test_the_remembered_plan_is_used_until_a_recipe_or_a_package_under_test_changes(recipes: Path,
                                                                                   tmp_path: Path) -> None:
    debpackages.make(recipes / "clusters", "mine")
    (recipes / "clusters/mine.toml").write_text('extends = "debian12"\n[packages]\nhead = ["mine_1.0_all.deb"]\n')
    cache = tmp_path / "cache" / "plan.pickle"

    def under_test() -> Step:
        return load_plan(recipes, cache).steps["localpackages:mine/head"]

    first = under_test()
    written = cache.stat().st_mtime_ns
    assert under_test() == first
    assert cache.stat().st_mtime_ns == written
    debpackages.make(recipes / "clusters", "mine", files={"/etc/mine": "other"})
    assert under_test().files != first.files
    cache.write_bytes(b"damaged")
    assert under_test().files != first.files
