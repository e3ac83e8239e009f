"""Nodes come to a recipe and leave it: all others stay what they are, and so does what people have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.description import Machine
from pipeline.errors import ManifestError
from pipeline.manifests import counting
from pipeline.manifests.recipes import Recipes, load
from tests.manifests.conftest import Writer

ONE = """\
# A cluster.
distro = "debian12"

[compute]
count = 3   # three

# who logs in
[memberships.login]
count = 2

# it is large
[machines.node3]
cpus = 4

# this one stays
[machines.node1]
cpus = 2

[xen.machines.node3]
boot = "kernel"

# all of it
[networks.private]
cidr = "10.9.0.0/24"
"""


@pytest.fixture
def folder(recipes: Writer) -> Path:
    return recipes({"clusters/one.toml": ONE, "clusters/over.toml": 'extends = "one"\n'})


def machines(recipes: Recipes, cluster: str = "one") -> dict[str, Machine]:
    return {one.name: one for one in recipes.describe(cluster).machines}


def test_who_leaves_takes_its_tables_along(folder: Path) -> None:
    before = machines(load(folder))
    draft = counting.fewer(load(folder), "one", ["node3"])
    expected = ONE.replace("count = 3", "count = 2").replace("# it is large\n[machines.node3]\ncpus = 4\n\n", "")
    assert draft.text == expected.replace('[xen.machines.node3]\nboot = "kernel"\n\n', "")
    draft.write()
    after = machines(load(folder))
    assert before.keys() - after.keys() == {"node3"} and all(before[name] == one for name, one in after.items())


def test_a_whole_membership_leaves(folder: Path) -> None:
    draft = counting.fewer(load(folder), "one", ["login1", "login2"])
    assert draft.text == ONE.replace("# who logs in\n[memberships.login]\ncount = 2\n\n", "")
    with pytest.raises(ManifestError, match=r"over\.toml:\d+: memberships\.login\.count: 0 is out of range"):
        counting.fewer(load(folder), "over", ["login1", "login2"])


def test_a_membership_whose_going_would_move_another(folder: Path) -> None:
    (folder / "clusters/one.toml").write_text(ONE + "\n[memberships.nas]\n")
    with pytest.raises(ManifestError, match=r"one\.toml: nas1 would have another address") as caught:
        counting.fewer(load(folder), "one", ["login1", "login2"])
    assert "as 10.9.0.192 for nas1" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        'distro = "debian12"\nmachines = { node2 = { cpus = 2 } }\n',
        'distro = "debian12"\nmachines.node2.cpus = 2\n',
        'distro = "debian12"\n[machines]\nnode2.cpus = 2\n',
        'distro = "debian12"\n[machines]\nnode2 = { cpus = 2 }\nnode1 = { cpus = 2 }\n',
        'distro = "debian12"\n[machines.node2.disks.a]\nsize = "1G"\n[machines.node2]\ncpus = 2',
        'distro = "debian12"\n[machines.node2]\n[machines.node2.disks]\n"a" = { size = "1G" } # [x]\n#end\n',
    ],
)
def test_however_it_is_written(folder: Path, text: str) -> None:
    (folder / "clusters/one.toml").write_text(text)
    try:
        draft = counting.fewer(load(folder), "one", ["node2"])
    except ManifestError as error:  # or not at all
        assert "its tables are written in a way that no command can edit" in error.message
        return
    assert "node2" not in draft.text and [one.name for one in draft.after.machines] == ["head", "node1"]
    assert "#end" not in text or "#end" in draft.text
