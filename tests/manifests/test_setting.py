"""Where in a recipe what machines have is set, and what its checks refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests import setting
from pipeline.manifests.recipes import Recipes, load
from tests.manifests.conftest import Writer

ONE = """\
distro = "debian12"
[compute]
count = 3
[memberships.login]
count = 2
[machines.node1]
cpus = 4   # it is large
[machines.login1]
memory = "1G"
"""
OVER = """\
extends = "one"
[machines.node2]
memory = "512M"
"""


@pytest.fixture
def folder(recipes: Writer) -> Path:
    return recipes({"clusters/one.toml": ONE, "clusters/over.toml": OVER, "clusters/third.toml": 'extends = "over"\n'})


def has(recipes: Recipes, cluster: str) -> dict[str, tuple[int, int]]:
    return {one.name: (one.memory_mib, one.cpus) for one in recipes.describe(cluster).machines}


@pytest.mark.parametrize(
    ("cluster", "machines", "values", "written"),
    [
        ("one", ["node2"], {"memory": "1G"}, ["[machines.node2]", 'memory = "1G"']),
        ("one", ["node1"], {"cpus": 2}, ["cpus = 2   # it is large"]),
        ("one", ["node1", "node2", "node3"], {"cpus": 2}, ["cpus = 2"]),
        ("one", ["login1", "login2"], {"memory": "2G", "cpus": 8}, ['memory = "2G"', "cpus = 8"]),
        ("one", ["head"], {"memory": "2G"}, ["[head]", 'memory = "2G"']),
        ("one", ["head", "node1"], {"memory": "2G"}, ["[head]", 'memory = "2G"', 'memory = "2G"']),
        ("over", ["node1", "node2", "node3"], {"cpus": 2}, ["[compute]", "cpus = 2", "[machines.node1]", "cpus = 2"]),
        ("over", ["node1", "node2", "node3"], {"memory": "2G"}, ["[compute]", 'memory = "2G"']),
        ("over", ["login1"], {"memory": "3G"}, ["[machines.login1]", 'memory = "3G"']),
    ],
)
def test_machines_have_it_and_no_others(
    folder: Path, cluster: str, machines: list[str], values: dict[str, int | str], written: list[str]
) -> None:
    before = has(load(folder), cluster)
    text = (folder / f"clusters/{cluster}.toml").read_text()
    draft = setting.draft(load(folder), cluster, machines, values)
    assert (folder / f"clusters/{cluster}.toml").read_text() == text, "nothing is written yet"
    draft.write()
    after = has(load(folder), cluster)
    old = text.splitlines()
    new = [line for line in draft.text.splitlines() if line]
    assert sorted(line for line in new if line not in old) == sorted(line for line in written if line not in old)
    mib = int(str(values.get("memory", "0G"))[:-1]) * 1024
    for name, (memory, cpus) in before.items():
        meant = name in machines
        assert after[name] == (mib if meant and mib else memory, values.get("cpus", cpus) if meant else cpus)
    again = setting.draft(load(folder), cluster, machines, values)
    assert not again.is_other, "said once more it says nothing new"


@pytest.mark.parametrize(
    ("machines", "values", "told"),
    [
        (["node2"], {"memory": "64M"}, r"clusters/one.toml:\d+: machines.node2.memory: 64 MiB is too little"),
        (["node2"], {"memory": "12"}, r'machines.node2.memory: "12" is not a size; expected text like "512M"'),
        (["node1"], {"cpus": 0}, r"clusters/one.toml:7: machines.node1.cpus: 0 is out of range; expected at least 1"),
        (["login1", "login2"], {"cpus": "many"}, r'one.toml:\d+: memberships.login.cpus: "many" is text; expected'),
        (["head"], {"memory": "1Z"}, r'head.memory: "1Z" is not a size'),
    ],
)
def test_what_the_checks_refuse_is_not_written(
    folder: Path, machines: list[str], values: dict[str, int | str], told: str
) -> None:
    with pytest.raises(ManifestError, match=told) as caught:
        setting.draft(load(folder), "one", machines, values)
    assert caught.value.hint == "nothing was changed"
    assert (folder / "clusters/one.toml").read_text() == ONE


def test_a_recipe_that_no_command_can_edit(recipes: Writer) -> None:
    folder = recipes(
        {"clusters/one.toml": 'distro = "debian12"\nmachines = { node1 = { cpus = 2 } }\ncompute.count = 2\n'}
    )
    for name in ("node1", "node2"):
        try:
            draft = setting.draft(load(folder), "one", [name], {"memory": "1G"})
        except ManifestError as error:
            assert "one.toml: its tables are written in a way that no command can edit" in error.message
            assert error.hint == f'write there yourself: machines.{name}.memory = "1G"'
        else:
            assert draft.after.machine(name).memory_mib == 1024


def test_who_extends_it(folder: Path) -> None:
    assert setting.extending(load(folder), "one") == ["over", "third"]
    assert setting.extending(load(folder), "over") == ["third"]
    assert setting.extending(load(folder), "third") == []
