"""The recipe of a cluster as it is: written down anew, it gives the same machines."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.description import Cluster, Host
from pipeline.manifests.recipes import load
from tests.verbs.lab import Lab


def described(lab: Lab, name: str, manifest: str) -> Cluster:
    """What that recipe makes."""
    (lab.recipes / f"clusters/{name}.toml").write_text(manifest)
    return dataclasses.replace(load(lab.recipes).describe(name), name="one")


def test_there_and_back(written: Lab) -> None:
    (row,) = written.vm("dump", "one")
    assert row.machines == ("head", "node1", "node2", "node3")
    assert described(written, "new", row.manifest) == written.cluster
    written.here.up = False
    (other,) = written.vm("dump", "one")
    assert other.manifest == row.manifest.replace("one as it runs", "one as it would be")


def test_what_is_there_counts_and_not_what_the_recipe_says(written: Lab) -> None:
    written.vm("set", "one", "node2", "memory=400M", "cpus=2")
    written.vm("set", "one", "node3", "memory=2G")
    (row,) = written.vm("dump", "one")
    found = described(written, "new", row.manifest)
    assert [(one.memory_mib, one.cpus) for one in found.nodes] == [(512, 4), (400, 2), (512, 4)]
    rest = [dataclasses.replace(one, memory_mib=512, cpus=4) for one in found.nodes]
    assert tuple(rest) == written.cluster.nodes


def test_allocations_are_told(written: Lab) -> None:
    (row,) = written.vm("dump", "one")
    for machine in written.cluster.machines:
        for card in machine.interfaces:
            assert card.mac in row.manifest and card.address in row.manifest
    assert "gets other MACs" not in row.manifest
    written.host = Host("far", "xen", "xen+ssh://root@far/system")
    (row,) = written.vm("dump", "one")
    assert "# Beside it on far, another cluster gets other MACs, and needs other [networks]" in row.manifest


def test_some_machines(written: Lab) -> None:
    (row,) = written.vm("dump", "one", "node[2-3]")
    assert row.manifest == "".join(
        f'{gap}[machines.node{number}]\nmemory = "512M"\ncpus = 4\n' for gap, number in (("", 2), ("\n", 3))
    )
    recipe = (written.recipes / "clusters/one.toml").read_text()
    assert described(written, "new", f"{recipe}\n{row.manifest}") == written.cluster


def test_without_its_recipe(written: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """What runs can be written down when the recipe has gone."""
    (written.recipes / "clusters/one.toml").unlink()
    (row,) = written.vm("dump", "one")
    assert "one has no recipe that says which packages are under test in it" in capsys.readouterr().err
    assert described(written, "one", row.manifest) == written.cluster
