"""What machines have is set: the recipe says it, machines that run have it as far as that goes, nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from pathlib import Path
from typing import Any

import libvirt
import pytest

from pipeline.cluster.records import Notes
from pipeline.errors import ClusterError, ManifestError, NotNow, NotThere, UserError, WrongUse
from pipeline.manifests import editing, setting
from pipeline.manifests.recipes import load
from pipeline.virt import hardware, power
from tests.verbs.conftest import RECIPE
from tests.verbs.lab import Lab

FAR = "at its next start; now 512 MiB, the most that it was started with"


def recipe(lab: Lab) -> str:
    return (lab.recipes / "clusters/one.toml").read_text()


def told(rows: list[Any]) -> list[tuple[str, str, bool, str]]:
    return [(row.machine, row.field, row.now, row.told) for row in rows]


def has(lab: Lab, name: str) -> tuple[int, int]:
    _, _, memory, cpus, _ = lab.raw(name).info()
    return memory // 1024, cpus


def test_what_it_was_started_with_is_given_at_once_and_more_at_its_next_start(written: Lab) -> None:
    assert told(written.vm("set", "one", "node1", "memory=384M", "cpus=2")) == [
        ("node1", "memory", True, "now"),
        ("node1", "cpus", True, "now"),
    ]
    assert has(written, "node1") == (384, 2)
    assert recipe(written) == f'{RECIPE}\n[machines.node1]\nmemory = "384M"\ncpus = 2\n'
    assert told(written.vm("set", "one", "node1", "memory=2G", "cpus=8")) == [
        ("node1", "memory", False, FAR),
        ("node1", "cpus", False, "at its next start; now 4, the most that it was started with"),
    ]
    assert has(written, "node1") == (512, 4)
    assert has(written, "node2") == (512, 4)


def test_several_at_once(written: Lab) -> None:
    """Rocks' `set host vm` took one machine alone."""
    rows = written.vm("set", "one", "node[1-2]", "node3", "memory=400M")
    assert told(rows) == [(f"node{number}", "memory", True, "now") for number in (1, 2, 3)]
    assert recipe(written) == RECIPE.replace('"512M"', '"400M"'), "all of a membership have it in its table"
    assert [has(written, f"node{number}")[0] for number in (1, 2, 3)] == [400, 400, 400]


def test_what_does_not_run_has_it_when_it_starts(written: Lab) -> None:
    written.raw("node1").destroy()
    written.raw("node2").suspend()
    written.raw("node3").destroy()
    written.raw("node3").undefine()
    words = [row.told for row in written.vm("set", "one", "node*", "memory=400M")]
    assert words == ["at its next start"] * 3
    written.here.up = False
    assert [row.told for row in written.vm("set", "one", "node*", "cpus=2")] == ["when it starts"] * 3


def test_a_saved_one_has_what_it_was_saved_with(written: Lab) -> None:
    power.save(written.connection, "one-node1", str(written.folder / "node1"), within=60)
    (row,) = written.vm("set", "one", "node1", "memory=400M")
    assert row.told == "when it starts from its disk; restored, it has what it was saved with"


def test_a_system_that_does_not_follow_is_told(written: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_FOLLOWS", 0.2)
    monkeypatch.setattr(libvirt.virDomain, "setMemoryFlags", lambda *_: 0)  # asked, and nothing comes of it
    (row,) = written.vm("set", "one", "node1", "memory=400M")
    assert (row.now, row.told) == (False, "at its next start; its system does not follow: it has 512 MiB now")
    monkeypatch.setattr(libvirt.virDomain, "setVcpusFlags", lambda *_: 0)
    (row,) = written.vm("set", "one", "node1", "cpus=2")
    assert (row.now, row.told) == (False, "at its next start; its system does not follow: it has 4 now")


def test_what_the_engine_refuses_is_told(written: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise libvirt.libvirtError("no balloon")

    monkeypatch.setattr(libvirt.virDomain, "setMemoryFlags", refuse)
    (row,) = written.vm("set", "one", "node1", "memory=400M")
    assert row.told == "at its next start; not now: one-node1: its memory cannot be changed: no balloon"
    assert 'memory = "400M"' in recipe(written)


def test_another_run_changes_the_cluster_meanwhile(written: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe says it, that machines do not have it is told, and the same words once more do the rest."""

    def busy(*_: object) -> object:
        raise ClusterError("another run is bringing one up", hint="wait for it")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.cluster.machines.Machines.adjust", busy)
        (error,) = written.vm("set", "one", "node1", "memory=400M")
    assert isinstance(error, UserError) and error.status == 1 and error.hint == "wait for it"
    assert "the recipe says it, and machines that run do not have it yet: another run" in error.message
    assert has(written, "node1") == (512, 4)
    before = recipe(written)
    assert told(written.vm("set", "one", "node1", "memory=400M")) == [("node1", "memory", True, "now")]
    assert has(written, "node1") == (400, 4)
    assert recipe(written) == before


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (("node1", "memory=64M"), ManifestError, r"one\.toml:\d+: machines\.node1\.memory: 64 MiB is too little"),
        (("node1", "memory=1G'; drop table vm_nodes"), ManifestError, "is not a size"),  # Rocks put it into its SQL
        (("node1", "cpus=-1"), ManifestError, "is text; expected a whole number"),
        (("node1", "cpus=9999999999999"), ManifestError, "is text; expected a whole number"),
        (("node1", "cpus="), ManifestError, "is text; expected a whole number"),
        (("node1", "mem=1G"), WrongUse, "machines have no 'mem' that can be set"),
        (("node1", "disksize=36"), WrongUse, "machines have no 'disksize'"),
        (("node1", "memory=1G", "memory=2G"), WrongUse, "memory is there twice"),
        (("node1",), WrongUse, "nothing to be set is named"),
        (("memory=1G",), WrongUse, "no machine is named"),
        (("node1", "next-boot=rescue"), WrongUse, "next-boot=rescue: there is no such thing to boot"),
        (("nod1", "memory=1G"), NotThere, "there is no machine 'nod1'"),
        (("node[3-4]", "memory=1G"), NotThere, "there is no machine 'node4'"),
        (("head", "memory=1G", "next-boot=install"), NotNow, "head is the head node, which is never installed"),
    ],
)
def test_what_cannot_be_set(written: Lab, words: tuple[str, ...], kind: type[UserError], message: str) -> None:
    with pytest.raises(kind, match=message):
        written.vm("set", "one", *words)
    assert recipe(written) == RECIPE, "and nothing is"
    assert has(written, "node1") == (512, 4)


def test_a_copy_has_no_recipe(written: Lab) -> None:
    written.copy_of = "other"
    with pytest.raises(NotNow, match="one is a copy of other, and no recipe says what it has"):
        written.vm("set", "one", "node1", "memory=1G")


def test_who_extends_it_is_told(written: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    (written.recipes / "clusters/like.toml").write_text('extends = "one"\n')
    written.vm("set", "one", "node1", "memory=400M")
    assert capsys.readouterr().err == "like: changed as well, for they extend one\n"


def test_next_boot(written: Lab) -> None:
    notes = Notes(written.folder)
    (row,) = written.vm("set", "one", "node2", "next-boot=install")
    assert (row.now, row.told) == (True, "once it is off, doit cluster:one installs it anew; disks that are kept stay")
    assert notes.has("again/node2") and recipe(written) == RECIPE
    assert [row.next_boot for row in written.vm("list", "one")] == ["os", "os", "install", "os"]
    written.raw("node2").destroy()
    with pytest.raises(NotNow, match="node2 is to be installed anew, instead of its next start") as caught:
        written.vm("start", "one", "node2")
    assert caught.value.hint == "doit vm install one node2 does it; or doit vm set one node2 next-boot=os"
    written.vm("set", "one", "node*", "next-boot=os")
    assert not notes.has("again/node2")
    written.here.up = False
    with pytest.raises(NotNow, match="one does not run: all its nodes are installed when it starts"):
        written.vm("set", "one", "node2", "next-boot=install")


def test_ten_at_once_lose_nothing(written: Lab) -> None:
    failed: list[BaseException] = []

    def set_it(number: int) -> None:
        try:
            field = "memory=400M" if number % 2 else "cpus=2"
            written.vm("set", "one", f"node{number % 3 + 1}", field)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=set_it, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    described = load(written.recipes).describe("one")
    assert [(one.memory_mib, one.cpus) for one in described.nodes] == [(400, 2)] * 3


def _write_for_ever(recipes: Path, ready: Any) -> None:
    file = recipes / "clusters/one.toml"
    for number in range(10**6):
        draft = setting.draft(load(recipes), "one", ["node1"], {"memory": f"{400 + number % 2}M"})
        for _ in range(50):
            editing.write(file, draft.text)
        ready.set()


def test_killed_at_any_moment_the_recipe_is_the_old_or_the_new(written: Lab) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_write_for_ever, args=(written.recipes, ready))
    writer.start()
    assert ready.wait(60)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join(60)
    machine = load(written.recipes).describe("one").machine("node1")
    assert machine.memory_mib in (400, 401)
    assert recipe(written).startswith(RECIPE)
    assert load(written.recipes).names("clusters") == ["one"], "what was half-written is no recipe"
    assert told(written.vm("set", "one", "node1", "memory=500M")) == [("node1", "memory", True, "now")]
