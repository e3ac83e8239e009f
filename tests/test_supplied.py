"""Where packages cannot be had, a person is told which clusters can be built all the same."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline import supplied
from pipeline.manifests.recipes import load
from pipeline.packages.given import NoSource, variable_of
from pipeline.step import Plan
from tests.boot import checkout
from tests.boot.checkout import Checkout

TOP = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of some clusters of ours."""
    recipes = tmp_path_factory.mktemp("plan") / "recipes"
    shutil.copytree(TOP / "recipes", recipes, symlinks=True)
    for file in (recipes / "clusters").iterdir():
        if not file.name.startswith(("debian", "rocky9")):
            file.unlink()
    return planning.make(load(recipes))


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("debian12", "debian13", "rocky9"):
        monkeypatch.delenv(variable_of(name), raising=False)


def hint(plan: Plan, *lacking: str) -> str:
    """What is told when index:rocky9 fails, and all is there but for tasks whose names hold these words."""
    error = supplied.told(
        NoSource("nothing", hint="say where"),
        "index:rocky9",
        plan,
        lambda task: not any(one in task for one in lacking),
    )
    assert error.message == "nothing" and error.hint.startswith("say where; ")
    return error.hint.removeprefix("say where; ")


def test_clusters_whose_packages_are_all_there(plan: Plan) -> None:
    assert hint(plan, "rocky9") == "clusters whose packages are all here: debian12, debian12-xen, debian13"
    assert hint(plan, "rocky9", "dom0-") == "clusters whose packages are all here: debian12, debian13"
    assert hint(plan, ":") == "clusters whose packages are all here: none"
    assert hint(plan, "netboot-amd64") == "clusters whose packages are all here: none", "all are installed by it"


def test_clusters_whose_packages_may_come_from_what_was_given(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("debian13"), "/srv/debian")
    monkeypatch.setenv(variable_of("rocky9"), "/srv/rocky9")
    ready, perhaps = hint(plan, "rocky9", "fetch:debian13").split("; ")
    assert ready == "clusters whose packages are all here: debian12, debian12-xen"
    assert perhaps.endswith(" from where you have said: debian13"), "not rocky9, which has just failed"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Checkout]:
    made = checkout.copy(tmp_path / "project", tmp_path / "artifacts")
    yield made
    made.remove()


def test_a_cluster_whose_packages_cannot_be_had_ends_in_seconds(project: Checkout) -> None:
    recipe = project.folder / "recipes/distros/rocky9.toml"
    recipe.write_text(
        re.sub("(?m)^mirror = .*", 'mirror = "https://no-such-host.invalid/rocky"', recipe.read_text(), count=1)
    )
    started = time.monotonic()
    run = project.doit("index:rocky9")
    assert time.monotonic() - started < 20
    assert run.status == 1
    for told in (
        "https://no-such-host.invalid/rocky/9/BaseOS",
        "--mirror rocky9=",
        "clusters whose packages are all here",
    ):
        assert told in run.output, run.output
