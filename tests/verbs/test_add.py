"""Nodes come to a recipe: each gets its own name, address and MAC, and nobody else gets another."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.errors import ManifestError, NotNow, UserError, WrongUse
from pipeline.manifests import counting
from pipeline.manifests.recipes import load
from pipeline.verbs.add import Added
from tests.verbs.conftest import RECIPE
from tests.verbs.lab import Lab


def recipe(lab: Lab) -> str:
    return (lab.recipes / "clusters/one.toml").read_text()


def test_the_next_one(written: Lab) -> None:
    before = load(written.recipes).describe("one")
    (row,) = written.vm("add", "one")
    assert row == Added("one", "node4", "compute", {"eth0": "10.77.1.4"}, {"eth0": "00:16:3e:01:00:04"}, 512, 4, ())
    assert row.text() == "node4: compute, 512 MiB, 4 cpu, eth0 10.77.1.4 00:16:3e:01:00:04"
    assert recipe(written) == RECIPE.replace("count = 3", "count = 4")
    after = load(written.recipes).describe("one")
    assert after.machines[:4] == before.machines, "what has been allocated stays"


def test_several_have_each_their_own(written: Lab) -> None:
    """Rocks computed a default for the first of several, and gave it to all."""
    rows = written.vm("add", "one", "memory=1G", "cpus=4", "--count", "3")
    assert [row.machine for row in rows] == ["node4", "node5", "node6"]
    assert len({row.addresses["eth0"] for row in rows}) == len({row.macs["eth0"] for row in rows}) == 3
    assert [(row.memory_mib, row.cpus) for row in rows] == [(1024, 4)] * 3
    assert load(written.recipes).describe("one").machine("node3").memory_mib == 512
    text = recipe(written)
    assert text.count('memory = "1G"') == 3 and text.count("cpus = 4") == 1, "what all have is said once"


def test_a_mac_of_its_own(written: Lab) -> None:
    """Rocks took any, also one that was somebody's already."""
    (row,) = written.vm("add", "one", "mac=52:54:00:00:00:0A")
    assert row.macs == {"eth0": "52:54:00:00:00:0a"}
    assert recipe(written).endswith('[machines.node4]\nmac = "52:54:00:00:00:0A"\n')
    with pytest.raises(ManifestError, match=r'machines\.node5\.mac: "52:54:00:00:00:0a" is that of node4 too'):
        written.vm("add", "one", "mac=52:54:00:00:00:0a")
    (login,) = written.vm("add", "one", "mac=52:54:00:00:00:0b", "--membership", "login")
    assert (login.machine, login.macs) == ("login1", {"eth0": "52:54:00:00:00:0b"})


def test_its_lot_is_in_the_macs(written: Lab) -> None:
    written.lot = 3
    (row,) = written.vm("add", "one")
    assert (row.macs, row.addresses) == ({"eth0": "00:16:3e:07:00:04"}, {"eth0": "10.77.7.4"})


def test_a_membership_comes_with_its_first_one(written: Lab) -> None:
    """Rocks' other appliances could have slices, and so names and MACs, that others had already."""
    before = load(written.recipes).describe("one")
    (login,) = written.vm("add", "one", "memory=1G", "--membership", "login")
    (nas,) = written.vm("add", "one", "--membership", "nas")
    (second,) = written.vm("add", "one", "--membership", "login")
    (node,) = written.vm("add", "one")
    assert [row.machine for row in (login, nas, second, node)] == ["login1", "nas1", "login2", "node4"]
    assert (login.memory_mib, second.memory_mib) == (1024, 1024)
    assert recipe(written).startswith(RECIPE.replace("count = 3", "count = 4"))
    described = load(written.recipes).describe("one")
    assert all(described.machine(one.name) == one for one in before.machines)
    macs = [card.mac for machine in described.machines for card in machine.interfaces]
    assert len(set(macs)) == len(macs)
    for row in (login, nas, second, node):
        (card,) = described.machine(row.machine).interfaces
        assert (row.addresses, row.macs) == ({"eth0": card.address}, {"eth0": card.mac})


def test_one_that_left_comes_back_with_what_it_had(written: Lab) -> None:
    gone = load(written.recipes).describe("one").machine("node3")
    written.vm("remove", "one", "node3", "--yes")
    (row,) = written.vm("add", "one")
    assert row.machine == "node3" and load(written.recipes).describe("one").machine("node3") == gone
    assert recipe(written) == RECIPE


def test_a_disk_that_was_kept_is_told(written: Lab) -> None:
    text = RECIPE + '\n[compute.disks.home]\nsize = "1G"\nkind = "kept"\n'
    (written.recipes / "clusters/one.toml").write_text(text)
    file = written.run.parent / "kept/one/node4.home.img"
    file.parent.mkdir(parents=True)
    file.write_text("old")
    four, five = written.vm("add", "one", "--count", "2")
    assert (four.kept, five.kept) == (("node4.home",), ())
    assert four.text().endswith("; it finds what was kept: node4.home")


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("--count", "0"), WrongUse, "--count 0: expected at least 1"),
        (("--count", "300"), ManifestError, r"one\.toml:5: compute\.count: 303 nodes don't fit: 10\.77\.1\.0/24"),
        (("memory=64M",), ManifestError, r"one\.toml:\d+: machines\.node4\.memory: 64 MiB is too little"),
        (("memory=lots",), ManifestError, 'machines.node4.memory: "lots" is not a size'),
        (
            ("mac=00:16:3e:01:00:01",),
            ManifestError,
            r"machines\.node4\.mac: \"00:16:3e:01:00:01\" is one that machines",
        ),
        (("mac=53:54:00:00:00:01",), ManifestError, r"node4\.mac: .* multicast"),
        (("mac=52:54:00:01",), ManifestError, r"node4\.mac: \"52:54:00:01\" is not a MAC"),
        (("mac=52:54:00:00:00:01", "--count", "2"), WrongUse, "one MAC for 2 machines"),
        (("mem=1G",), WrongUse, "machines have no 'mem'"),
        (("--membership", "head"), ManifestError, "one has its head node"),
        (("--membership", "No"), ManifestError, r'one\.toml:\d+: memberships\.No: "No" is no name'),
        (("--membership", "node"), ManifestError, r'"node1" is one of compute too; expected another prefix'),
    ],
)
def test_what_is_refused(written: Lab, words: tuple[str, ...], kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message):
        written.vm("add", "one", *words)
    assert recipe(written) == RECIPE


def test_one_that_extends_it_keeps_what_it_has(written: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own membership would be behind one that comes to the recipe below."""
    like = written.recipes / "clusters/like.toml"
    like.write_text('extends = "one"\n[memberships.nas]\n')
    with pytest.raises(ManifestError, match=r"like\.toml: nas1 would have another address"):
        written.vm("add", "one", "--membership", "login")
    assert recipe(written) == RECIPE
    written.vm("add", "one")
    assert "like: changed as well, for they extend one" in capsys.readouterr().err


def _add(folder: Path, told: Any) -> None:
    lab = Lab(load(folder.parent / "recipes").describe("one"), folder, cast(Any, None))
    (row,) = lab.vm("add", "one")
    told.put(dataclasses.asdict(row))


def test_ten_at_once_get_each_their_own(written: Lab) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    runs = [context.Process(target=_add, args=(written.folder, told)) for _ in range(10)]
    for run in runs:
        run.start()
    rows = [told.get(timeout=120) for _ in runs]
    for run in runs:
        run.join(60)
    assert sorted(row["machine"] for row in rows) == sorted(f"node{number}" for number in range(4, 14))
    assert len({row["macs"]["eth0"] for row in rows}) == len({row["addresses"]["eth0"] for row in rows}) == 10
    assert recipe(written) == RECIPE.replace("count = 3", "count = 13")


def _add_for_ever(folder: Path, told: Any) -> None:
    lab = Lab(load(folder.parent / "recipes").describe("one"), folder, cast(Any, None))
    for _ in range(200):
        (row,) = lab.vm("add", "one")
        told.put(row.machine)


def test_killed_at_any_moment_nothing_is_lost(written: Lab) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    run = context.Process(target=_add_for_ever, args=(written.folder, told))
    run.start()
    assert told.get(timeout=60) == "node4"
    os.kill(run.pid or 0, signal.SIGKILL)
    run.join(60)
    there = len(load(written.recipes).describe("one").nodes)
    assert there >= 4 and recipe(written) == RECIPE.replace("count = 3", f"count = {there}")
    (row,) = written.vm("add", "one")  # the lock went with whoever held it
    assert row.machine == f"node{there + 1}"


def test_what_an_editor_saved_meanwhile_is_not_written_over(written: Lab) -> None:
    draft = counting.more(load(written.recipes), "one", "compute", 1, {})
    (written.recipes / "clusters/one.toml").write_text(RECIPE + "# saved\n")
    with pytest.raises(NotNow, match=r"one\.toml was changed meanwhile"):
        draft.write()
    assert recipe(written) == RECIPE + "# saved\n"
