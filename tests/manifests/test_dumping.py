"""A cluster's description, as a manifest, describes the same cluster: round trips."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline import description
from pipeline.manifests import dumping
from pipeline.manifests.dumping import Software
from pipeline.manifests.recipes import load
from tests.boot.checkout import TOP
from tests.manifests.conftest import Writer

PLAIN = 'distro = "debian12"\n'
FULL = """\
distro = "debian12"
domain = "example.org"
opkgs = ["slurm"]
kernel_from = "debian12"
[head]
name = "front"
memory = "1G"
cpus = 2
disk = "20G"
filesystems = [{ mount = "/", size = "fill" }, { mount = "swap", size = "100M" }]
disks = { home = { size = "3G", kind = "kept" } }
[compute]
count = 4
prefix = "c"
memory = "400M"
disks = { scratch = { size = "1G" }, more = { size = "2G" } }
[memberships.login]
count = 2
packages = ["less"]
[memberships.nas-box]
prefix = "nas"
first_node = "10.9.0.200"
memory = "2G"
[machines.c2]
cpus = 8
disks = { scratch = { size = "5G", kind = "kept" }, own = { size = "1G" } }
[machines.c3]
memory = "3G"
mac = "02:00:00:00:00:0c"
[machines.login2]
disks = { x = { size = "16M" } }
[networks.public]
cidr = "192.168.7.0/24"
mac_prefix = "52:54:00"
head = "192.168.7.9"
[networks.private]
cidr = "10.9.0.0/24"
host = "10.9.0.99"
first_node = "10.9.0.5"
[xen]
type = "pvh"
boot = "kernel"
[xen.machines.c1]
type = "hvm"
boot = "pygrub"
device = "/dev/vg0/c1"
pci = ["03:00.0"]
"""


def again(folder: Path, name: str, lot: int = 0) -> tuple[description.Cluster, description.Cluster]:
    """The cluster, and that of the manifest that is made of it."""
    recipes = load(folder)
    before, manifest = recipes.describe(name, lot), recipes.cluster(name)
    software = Software(
        manifest.kernel_from, packages={kind: table.packages for kind, table in manifest.memberships.items()}
    )
    (folder / "clusters/new.toml").write_text(dumping.dump(before, software, ["one", "two"]))
    after = load(folder).describe("new", lot)
    assert load(folder).cluster("new").memberships.keys() == manifest.memberships.keys()
    for kind, table in load(folder).cluster("new").memberships.items():
        assert table.packages == manifest.memberships[kind].packages
    return before, dataclasses.replace(after, name=before.name)


@pytest.mark.parametrize("text", [PLAIN, FULL])
@pytest.mark.parametrize("lot", [0, 3])
def test_the_machines_are_the_same(recipes: Writer, text: str, lot: int) -> None:
    before, after = again(recipes({"clusters/one.toml": text}), "one", lot)
    assert after == before


@pytest.mark.parametrize("name", [path.stem for path in sorted((TOP / "recipes/clusters").glob("*.toml"))])
def test_every_recipe_of_ours(recipes: Writer, name: str) -> None:
    """Hosts and OPKGs are those of this project."""
    folder = recipes({})
    for kind in ("distros", "hosts", "netboot", "opkgs", "clusters", "keys"):
        for entry in (TOP / "recipes" / kind).iterdir():
            target = folder / kind / entry.name
            target.parent.mkdir(exist_ok=True)
            if not target.exists() or target.is_file():
                target.unlink(missing_ok=True)
                target.symlink_to(entry)
    before, after = again(folder, name)
    assert after == before


def test_tables_of_single_machines(recipes: Writer) -> None:
    """They go into a recipe that has machines of these names."""
    folder = recipes({"clusters/one.toml": FULL})
    before = load(folder).describe("one")
    names = ["front", "c2", "c1"]
    tables = dumping.dump_machines(before, names, on_xen=True)
    (folder / "clusters/new.toml").write_text(
        FULL[: FULL.index("[machines")] + FULL[FULL.index("[networks") : FULL.index("[xen")] + tables
    )
    after = load(folder).describe("new")
    assert [after.machine(name) for name in names] == [before.machine(name) for name in names]
    assert after.machine("c3") != before.machine("c3")


def test_a_manifest_of_a_hundred_machines_is_short(recipes: Writer) -> None:
    folder = recipes({"clusters/one.toml": f"{PLAIN}[compute]\ncount = 99\n[machines.node7]\ncpus = 3\n"})
    before, after = again(folder, "one")
    assert after == before
    lines = (folder / "clusters/new.toml").read_text().splitlines()
    assert len(lines) < 45 and "[machines.node7]" in lines
