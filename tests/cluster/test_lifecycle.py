"""A cluster goes on, over libvirt's own test driver: what is touched, what is left alone, and when all of it is ended.

Its machines say on their report channels what the test wants; what only real machines can show is in `tests/boot`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import libvirt
import pytest

from pipeline import consent, events
from pipeline.cluster import bringing, changing, described, leaving, records, tried
from pipeline.cluster.bringing import Hands
from pipeline.cluster.composition import Composition
from pipeline.cluster.course import Act, Phase, Seen
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.reinstalling import reinstall
from pipeline.cluster.runner import Runner
from pipeline.cluster.tried import Tried
from pipeline.description import Machine
from pipeline.drivers import domain, libvirt_xml
from pipeline.errors import ClusterError
from pipeline.hosts.shelf import LocalShelf
from pipeline.tasks import Graph
from pipeline.virt import logs, pace, power
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import Connection, connect
from pipeline.virt.disks import Given
from pipeline.virt.pace import Capacity
from pipeline.virt.watch import Reached

TOP = Path(__file__).resolve().parents[2]
NAME = "debian12"
MACHINES = ("head", "node1", "node2")
PHASES: tuple[Phase, ...] = ("boot", "install", "start")

_DEFINITION = """<domain type="test"><name>{0}-{1}</name><uuid>{2}</uuid><memory unit="MiB">64</memory>
<vcpu>1</vcpu><os><type>hvm</type></os><metadata>
<xo:machine xmlns:xo="urn:xen-oscar:domain:1" cluster="{0}" node="{1}" role="compute" accelerator="tcg">
<xo:artifact role="image" digest="{3}"/><xo:artifact role="definition" digest="{4}"/></xo:machine></metadata>
</domain>"""


class Place:
    """A VM container with the test driver for its libvirt, and a run folder for what machines say."""

    libvirt_uri = "test:///default"
    more = ""
    kernel_log = None
    disks_are_here = True
    cluster = NAME

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.up = True
        self.complete = True
        self.ended = 0
        self.added: list[str] = []
        self.removed: list[str] = []
        self.full = False

    def find(self) -> Place | None:
        return self if self.up else None

    def shelf(self, home: object) -> LocalShelf:
        return LocalShelf(self.run_dir)

    def add(self, home: object, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        self.added += [disk.name for disk in disks]

    def remove(self, home: object, machines: Sequence[str]) -> None:
        self.removed += machines

    def require_memory(self, accelerator: object, machines: Sequence[Machine]) -> None:
        if self.full:
            raise ClusterError("not enough memory")

    def check(self, home: object) -> None:
        if not self.complete:
            raise ClusterError("the bridge xo-private is missing there")

    def capacity(self, accelerator: object) -> Capacity:
        return Capacity(2, "tcg")

    def stop(self) -> None:
        self.ended += 1

    def lease(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def explained(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def consoles(self, home: object, names: object, failed: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def pidfd(self) -> int:
        return os.eventfd(0, os.EFD_CLOEXEC)

    def lost(self) -> ClusterError:
        return ClusterError("the cluster has ended")


class Stage:
    """A cluster that came up once: three machines that run and are ready."""

    def __init__(self, life: Lifecycle, place: Place, connection: Connection) -> None:
        self.life = life
        self.place = place
        self.connection = connection
        self.digest = "sha256:1"
        self.definitions: dict[str, str] = {}
        self.started: list[tuple[str, str]] = []
        self.deployed = 0
        self.told: list[str] = []

    def marks(self, name: str) -> dict[str, str]:
        """What a machine would be made of."""
        return {"image": self.digest, "definition": self.definitions.get(name, "sha256:1")}

    def define(self, name: str, digest: str = "sha256:1") -> None:
        text = _DEFINITION.format(
            NAME, name, domain.uuid_of(NAME, name), digest, self.definitions.get(name, "sha256:1")
        )
        power.start(self.connection, text, report=self.place.run_dir / "report" / name)

    def start(self, connection: Connection, seen: Seen, phase: str) -> None:
        self.started.append((phase, seen.name))
        self.define(seen.name)
        self.say(seen.name, "DONE\n" if phase == "install" else "READY\n")
        if phase == "install":
            self.raw(seen.name).destroy()

    def forget(self, shell: object, node: str) -> None:
        self.told.append(f"forget {node}")

    def tell_head(self, shell: object, archive: bytes, notes: records.Notes, *, patience: float) -> None:
        self.told.append("head")
        notes.add("renamed")
        notes.remove("deployed")

    def tell_nodes(self, shell: object, notes: records.Notes, *, patience: float) -> None:
        self.told.append("nodes")
        notes.remove("renamed")

    def say(self, name: str, text: str) -> None:
        (self.place.run_dir / "report" / name).write_text(text)

    def raw(self, name: str) -> Any:
        return self.connection.domain(domain.name_of(NAME, name))

    def states(self) -> dict[str, str]:
        return self.life.states()

    def reasons(self, phase: Phase) -> list[str]:
        """Why a phase has something to do; none where it has not."""
        events.subscribe(lambda event: None)()  # takes what tests before this one told nobody
        told: list[events.Event] = []
        unsubscribe = events.subscribe(told.append)
        try:
            reached = self.life.has_reached(phase)
        finally:
            unsubscribe()
        found = [event.text for event in told if isinstance(event, events.Reason)]
        assert reached == (not found)
        return found


@contextlib.contextmanager
def noted(begun: list[bool]) -> Iterator[None]:
    """In place of a new beginning."""
    begun.append(True)
    yield


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setenv("XEN_OSCAR_ARTIFACTS", str(tmp_path))
    life = Graph(TOP).lifecycle(NAME)
    for folder in ("report", "console", "saved", "installed", "disks"):
        (life.run_dir / folder).mkdir(parents=True)
    place = Place(life.run_dir)
    with connect(place.libvirt_uri) as connection:
        made = Stage(life, place, connection)
        monkeypatch.setattr(life.runner, "place", place)
        monkeypatch.setattr(life.runner.survey, "_place", place)
        monkeypatch.setattr(life.runner.survey, "_marks", made.marks)
        monkeypatch.setattr(life.runner, "is_built", lambda: True)
        monkeypatch.setattr(life.runner, "_start", made.start)
        monkeypatch.setattr(
            Composition, "_disk", lambda _self, machine, folder: Given(machine.name, folder, folder, "")
        )
        monkeypatch.setattr(Runner, "_accelerator", Found("tcg", ""))
        monkeypatch.setattr(life, "shell", lambda: None)
        monkeypatch.setattr(changing, "tell_head", made.tell_head)
        monkeypatch.setattr(changing, "tell_nodes", made.tell_nodes)
        monkeypatch.setattr(changing, "forget", made.forget)
        monkeypatch.setattr(Runner, "capacity", lambda _self: Capacity(2, "tcg"))
        monkeypatch.setattr(life, "_opkg_phases", lambda when: setattr(made, "deployed", made.deployed + 1))
        for name in MACHINES:
            made.define(name)
            made.say(name, "READY\n")
        booted(made, "node1", "node2")
        for note in ("installed/node1", "installed/node2", "up", "deployed"):
            life._notes.add(note)
        yield made
        for found in connection.raw.listAllDomains():  # the driver's state is the process's, not the connection's
            if found.name().startswith(f"{NAME}-"):
                with contextlib.suppress(libvirt.libvirtError):
                    found.destroy()
                found.undefine()


def all_phases(stage: Stage) -> list[str]:
    return [reason for phase in ("boot", "install", "start") for reason in stage.reasons(phase)]


def test_a_cluster_that_is_up_has_nothing_to_do(stage: Stage) -> None:
    assert all_phases(stage) == []


def test_a_machine_that_says_much_once_it_is_up_is_up(stage: Stage) -> None:
    report = stage.life.run_dir / "report" / "node1"
    while not logs.older(report).exists():
        logs.append(report, b"STATUS much\n" * 100_000)
    assert all_phases(stage) == []


def test_what_was_tried_in_place_is_made_anew_whatever_the_recipe_says(stage: Stage) -> None:
    """Also when that says again what the machines were made of."""
    tried.write(stage.life.run_dir, Tried({}, tried.What(("c3",))))
    assert all_phases(stage) == ["OPKG c3: tried in place, not installed"] * 3
    (stage.life.run_dir / "tried.json").unlink()
    assert all_phases(stage) == []


def test_paused_machines_are_resumed_and_nothing_else_is_touched(stage: Stage) -> None:
    for name in MACHINES:
        stage.raw(name).suspend()
    assert all_phases(stage) == ["head to be resumed", "node1, node2 to be resumed"]
    stage.life.reach("boot")
    stage.life.reach("start")
    assert set(stage.states().values()) == {"running"}
    assert (stage.started, stage.place.ended, stage.deployed) == ([], 0, 0)
    assert all_phases(stage) == []


def test_saved_machines_are_restored(stage: Stage, tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.mkdir()
    for name in ("head", "node2"):
        power.save(stage.connection, domain.name_of(NAME, name), str(memory / name), within=10)
    assert all_phases(stage) == ["head to be restored", "node2 to be restored"]
    stage.life.reach("boot")
    stage.life.reach("start")
    assert set(stage.states().values()) == {"running"}
    assert (stage.started, stage.place.ended) == ([], 0)


def test_stopped_machines_are_started_and_stay_installed(stage: Stage) -> None:
    for name in ("head", "node1"):
        stage.raw(name).destroy()
    assert all_phases(stage) == ["head to be started", "node1 to be started"]
    stage.life.reach("boot")
    assert stage.deployed == 0
    stage.life.reach("install")
    stage.life.reach("start")
    assert stage.started == [("boot", "head"), ("start", "node1")]
    assert (stage.place.ended, stage.deployed) == (0, 1)
    assert all_phases(stage) == []


def test_a_node_on_its_way_is_waited_for(stage: Stage) -> None:
    """As after `doit vm start --no-wait`, which begins its report anew."""
    stage.say("node1", "STATUS boot\n")
    assert all_phases(stage) == ["node1 to be waited for"]
    ready = threading.Timer(0.5, stage.say, ["node1", "STATUS boot\nREADY\n"])
    ready.start()
    begin = time.monotonic()
    stage.life.reach("start")
    assert time.monotonic() - begin > 0.4
    assert (stage.started, stage.place.ended) == ([], 0)
    ready.join()


def test_a_node_that_does_not_come_back_ends_nothing_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pace._DEADLINES, "start", 0.2)
    stage.say("node1", "STATUS boot\n")
    with pytest.raises(ClusterError, match=r"node1 \(start.*\): not ready after 0.2 s") as caught:
        stage.life.reach("start")
    assert "debian12 is left as it is; after doit vm stop debian12 MACHINE" in caught.value.hint
    assert stage.place.ended == 0
    assert set(stage.states().values()) == {"running"}


def test_a_head_node_that_does_not_come_back_ends_nothing_else(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.raw("head").destroy()

    def fail(connection: Connection, seen: Seen, phase: str) -> None:
        raise ClusterError("debian12-head cannot be started: no memory")

    monkeypatch.setattr(stage.life.runner, "_start", fail)
    with pytest.raises(ClusterError, match="no memory"):
        stage.life.reach("boot")
    assert stage.place.ended == 0
    assert stage.states() == {"head": "off", "node1": "running", "node2": "running"}


def test_a_first_start_that_fails_ends_the_cluster(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.life._notes.remove("up")
    monkeypatch.setitem(pace._DEADLINES, "start", 0.2)
    stage.say("node1", "STATUS boot\n")
    with pytest.raises(ClusterError, match="not ready"):
        stage.life.reach("start")
    assert stage.place.ended == 1


def test_only_nodes_that_were_never_installed_are(stage: Stage) -> None:
    stage.life._notes.remove("installed/node2")
    stage.say("node2", "DONE\n")
    assert stage.reasons("boot") == []
    assert stage.reasons("install") == ["node2 to be installed"]


def test_opkgs_that_failed_are_told_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that failed when nodes came back is no reason to call the cluster up."""

    def fail(phase: str) -> None:
        raise ClusterError("head: api-post-deploy of OPKG c3 ended with status 1")

    stage.raw("node1").destroy()
    monkeypatch.setattr(stage.life, "_opkg_phases", fail)
    with pytest.raises(ClusterError, match="status 1"):
        stage.life.reach("start")
    assert stage.reasons("start") == ["the OPKGs to be told that all nodes are up"]
    assert stage.place.ended == 0


def test_older_artifacts_are_named_and_saved_memory_is_not_given_up_unasked(stage: Stage, tmp_path: Path) -> None:
    power.save(stage.connection, domain.name_of(NAME, "node1"), str(tmp_path / "memory"), within=10)
    stage.digest = "sha256:2"
    assert stage.reasons("boot") == ["head, node1, node2 are made of older artifacts: image"]
    with pytest.raises(
        ClusterError,
        match="debian12 would be made anew, and the saved memory of node1 would be lost: "
        "head, node1, node2 are made of older artifacts: image",
    ) as caught:
        stage.life.reach("boot")
    assert "--yes" in caught.value.hint and "doit vm restore debian12" in caught.value.hint
    assert stage.place.ended == 0
    assert stage.states() == {"head": "running", "node1": "saved", "node2": "running"}


def test_who_agrees_gets_a_new_cluster(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    power.save(stage.connection, domain.name_of(NAME, "node1"), str(tmp_path / "memory"), within=10)
    stage.digest = "sha256:2"
    asked: list[str] = []
    begun: list[bool] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(stage.life.runner, "begun", lambda: noted(begun))
    events.answer_with(agree)
    try:
        stage.life.reach("boot")
    finally:
        events.answer_with(None)
    assert begun == [True]
    (question,) = asked
    assert question == (
        "debian12 is made anew: head, node1, node2 are made of older artifacts: image.  The saved "
        "memory of node1 is lost then: go on?"
    )


def test_older_artifacts_alone_are_replaced_without_a_question(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bool] = []
    monkeypatch.setattr(stage.life.runner, "begun", lambda: noted(begun))
    stage.digest = "sha256:2"
    stage.life.reach("boot")
    stage.place.up = False
    stage.life.reach("boot")
    assert begun == [True, True]
    assert stage.reasons("boot") == ["debian12 does not run"]


def test_a_machine_whose_definition_is_another_now_is_restarted_alone(stage: Stage) -> None:
    stage.definitions["node2"] = "sha256:2"
    before = {name: stage.raw(name).ID() for name in MACHINES}
    assert all_phases(stage) == ["node2 to be restarted with another definition"]
    for phase in PHASES:
        stage.life.reach(phase)
    assert stage.started == [("start", "node2")]
    assert (stage.place.ended, stage.deployed) == (0, 1)
    assert {name for name in MACHINES if stage.raw(name).ID() != before[name]} == {"node2"}
    assert all_phases(stage) == []


def test_a_head_node_whose_definition_is_another_now_is_restarted_alone(stage: Stage) -> None:
    stage.definitions["head"] = "sha256:2"
    before = {name: stage.raw(name).ID() for name in MACHINES}
    for phase in PHASES:
        stage.life.reach(phase)
    assert stage.started == [("boot", "head")]
    assert {name for name in MACHINES if stage.raw(name).ID() != before[name]} == {"head"}
    assert all_phases(stage) == []


def test_saved_memory_is_not_given_up_unasked_for_another_definition(stage: Stage, tmp_path: Path) -> None:
    power.save(stage.connection, domain.name_of(NAME, "node1"), str(tmp_path / "memory"), within=10)
    stage.definitions["node1"] = "sha256:2"
    with pytest.raises(
        ClusterError,
        match="debian12 would go on with other definitions, and the saved memory of node1 "
        "would be lost: node1 to be restarted with another definition",
    ):
        stage.life.reach("start")
    assert stage.states() == {"head": "running", "node1": "saved", "node2": "running"}


def booted(stage: Stage, *nodes: str) -> None:
    """Write down that the cluster was booted with these nodes."""
    cluster = stage.life.cluster
    first = cluster.nodes[0]
    known = tuple(dataclasses.replace(first, name=name) for name in nodes if name not in MACHINES)
    described.write(
        stage.life.run_dir,
        dataclasses.replace(cluster, nodes=(*(node for node in cluster.nodes if node.name in nodes), *known)),
        stage.life.host,
    )


def test_a_node_that_came_to_the_recipe_is_added_to_the_cluster_that_runs(stage: Stage) -> None:
    booted(stage, "node1")
    stage.raw("node2").destroy()
    stage.raw("node2").undefine()
    logs.remove(stage.life.run_dir / "report/node2")
    stage.life._notes.remove("installed/node2")
    assert all_phases(stage) == ["node2 to be added", "node2 to be installed", "node2 to be started"]
    before = {name: stage.raw(name).ID() for name in ("head", "node1")}
    stage.life.reach("boot")
    assert stage.told == ["head"]
    assert (stage.place.removed, stage.place.added) == (["node2"], ["node2"])
    assert stage.reasons("boot") == []
    stage.life.reach("install")
    stage.life.reach("start")
    assert stage.started == [("install", "node2"), ("start", "node2")]
    assert stage.told == ["head", "nodes"]
    assert {name: stage.raw(name).ID() for name in before} == before, "those that ran run on"
    assert all_phases(stage) == []


def test_a_node_that_left_the_recipe_is_taken_away(stage: Stage) -> None:
    booted(stage, "node1", "node2", "node3")
    stage.define("node3")
    stage.life._notes.add("installed/node3")
    stage.say("node3", "READY\n")
    assert stage.reasons("boot") == ["node3 to be taken away"]
    for phase in PHASES:
        stage.life.reach(phase)
    assert stage.place.removed == ["node3"] and not (stage.life.run_dir / "report/node3").exists()
    assert not stage.life._notes.has("installed/node3")
    assert {found.name() for found in stage.connection.raw.listAllDomains() if found.name().startswith(NAME)} == {
        f"{NAME}-{name}" for name in MACHINES
    }
    assert (stage.started, stage.told, stage.place.ended) == ([], ["head", "nodes"], 0)
    assert all_phases(stage) == []


def test_the_saved_memory_of_a_node_that_left_is_not_given_up_unasked(stage: Stage, tmp_path: Path) -> None:
    booted(stage, "node1", "node2", "node3")
    stage.define("node3")
    power.save(stage.connection, domain.name_of(NAME, "node3"), str(tmp_path / "memory"), within=10)
    for reason in ("node3 to be taken away", "head, node1, node2 are made of older artifacts: image"):
        assert stage.reasons("boot") == [reason]
        with pytest.raises(ClusterError, match=f"the saved memory of node3 would be lost: {reason}"):
            stage.life.reach("boot")
        stage.digest = "sha256:2"
    assert stage.place.removed == [] and stage.place.ended == 0


def test_a_node_for_which_there_is_no_memory_is_not_added(stage: Stage) -> None:
    booted(stage, "node1")
    stage.place.full = True
    with pytest.raises(ClusterError, match="not enough memory"):
        stage.life.reach("boot")
    assert (stage.place.added, stage.told, stage.place.ended) == ([], [], 0)


def test_a_saved_node_is_installed_anew_once_somebody_agrees(stage: Stage, tmp_path: Path) -> None:
    power.save(stage.connection, domain.name_of(NAME, "node2"), str(tmp_path / "memory"), within=10)
    with pytest.raises(ClusterError, match="the saved memory of node2 would be lost"):
        list(reinstall(stage.life, ["node2"]))
    assert stage.states()["node2"] == "saved"
    with consent.answered(True):
        assert dict(reinstall(stage.life, ["node2"])) == {"node2": "installed anew, and ready"}
    assert stage.states()["node2"] == "running"


def test_a_node_that_left_by_command_and_is_back_is_made_anew(stage: Stage) -> None:
    """Its recipe is what it was when the cluster was booted, so nothing else tells that its disk has gone."""
    assert leaving.leave(stage.life, ["node2"])
    assert stage.place.removed == ["node2"] and "node2" not in stage.states()
    assert stage.reasons("boot") == [] and stage.reasons("install") == ["node2 to be installed"]
    stage.life.reach("install")
    assert (stage.place.added, stage.told) == (["node2"], ["forget node2"])
    stage.life.reach("start")
    assert stage.states()["node2"] == "running" and all_phases(stage) == []


def test_what_left_by_command_is_told_by_the_next_run(stage: Stage) -> None:
    booted(stage, "node1", "node2", "node3")
    stage.define("node3")
    leaving.leave(stage.life, ["node3"])
    assert "node3" not in stage.states() and stage.reasons("boot") == ["node3 to be taken away"]
    for phase in PHASES:
        stage.life.reach(phase)
    assert stage.told == ["head", "nodes"] and not stage.life._notes.has("begun/node3")
    assert stage.started == [] and all_phases(stage) == []


def test_an_installation_that_was_begun_finds_an_empty_disk_and_a_head_node_that_serves_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(power, "start", lambda connection, definition, **_: started.append(definition))
    monkeypatch.setattr(Composition, "definition", lambda _self, name, purpose: f"{name} {purpose}")
    monkeypatch.setattr(libvirt_xml, "for_start", lambda definition, accelerator, marks: definition)
    monkeypatch.setattr(stage.life.runner, "_start", partial(Runner._start, stage.life.runner))

    def silent(_shell: object, _node: str) -> None:
        raise ClusterError("head is silent")

    def at_once(
        _watching: object, phase: Phase, acts: Mapping[str, Act], _ready: object, hands: Hands, _capacity: object
    ) -> Iterator[Reached]:
        for name in acts:
            hands.start(name)
            yield Reached(name, phase)

    monkeypatch.setattr(bringing, "bring", at_once)
    logs.remove(stage.place.run_dir / "report/node2")
    stage.life._notes.remove("installed/node2")
    stage.life._notes.add("begun/node2")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(changing, "forget", silent)
        with pytest.raises(ClusterError, match="head is silent"):
            stage.life.reach("install")
    assert stage.life._notes.has("begun/node2"), "so the head node is told by the next run"
    stage.life._notes.remove("begun/node2")
    stage.place.removed, stage.place.added = [], []
    for told, disks in (([], []), (["forget node2"], ["node2"])):
        stage.life._notes.remove("installed/node2")
        stage.life.reach("install")
        assert (stage.told, stage.place.removed, stage.place.added) == (told, disks, disks)
    assert started == ["node2 install"] * 2


def test_a_run_that_ends_while_nodes_are_added_is_repeated(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    booted(stage, "node1")

    def fail(when: str) -> None:
        raise ClusterError("head: api-post-clientdef of OPKG c3 ended with status 1")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(stage.life, "_opkg_phases", fail)
        with pytest.raises(ClusterError, match="status 1"):
            stage.life.reach("boot")
    assert stage.place.ended == 0
    assert stage.reasons("boot") == ["node2 to be added"]
    stage.life.reach("boot")
    assert stage.reasons("boot") == []


def test_a_place_that_has_lost_what_the_cluster_needs(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a Xen host that was started anew: with its head node off nothing is left to go on from."""
    stage.place.complete = False
    assert all_phases(stage) == [], "what runs is not touched"
    stage.raw("node1").destroy()
    with pytest.raises(ClusterError, match="the bridge xo-private is missing there"):
        stage.life.reach("start")
    assert stage.place.ended == 0
    stage.raw("head").destroy()
    assert stage.reasons("boot") == ["the bridge xo-private is missing there"]


def test_a_libvirt_that_does_not_answer_is_no_reason_to_lose_memory(stage: Stage) -> None:
    stage.place.libvirt_uri = "qemu+unix:///system?socket=/nowhere"
    with contextlib.suppress(ClusterError):
        stage.life.has_reached("boot")
    (stage.place.run_dir / "saved/node2").write_text("memory")
    with pytest.raises(ClusterError, match="the saved memory of node2 would be lost"):
        stage.life.reach("boot")
    assert stage.place.ended == 0


def test_asking_a_cluster_imports_nothing_that_only_acts() -> None:
    """A run with nothing to do imports this, and shall end at once."""
    acts = ("checks.verify", "identity", "shell", "cluster.opkgphase", "virt.watch", "cluster.bringing", "report.page")
    program = "import sys, pipeline.cluster.lifecycle; print(*(name for name in sys.argv[1:] if name in sys.modules))"
    words = [sys.executable, "-c", program, *(f"pipeline.{name}" for name in acts)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "\n"
