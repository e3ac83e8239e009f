"""How a cluster goes on: a table of what is seen and what is done."""

from __future__ import annotations

import itertools

import pytest

from pipeline.cluster import course
from pipeline.cluster.course import Act, Change, Course, Phase, Seen
from pipeline.virt.power import State

HEAD = Seen("head", True, "running", ready=True)


def node(
    state: State | None, number: int = 1, *, ready: bool = False, installed: bool = True, changed: tuple[str, ...] = ()
) -> Seen:
    return Seen(f"node{number}", False, state, ready, installed, changed)


def head(state: State | None, *, ready: bool = True) -> Seen:
    return Seen("head", True, state, ready)


@pytest.mark.parametrize(
    ("state", "ready", "act"),
    [
        ("running", True, None),
        ("running", False, "wait"),  # it comes up, or `doit vm start --no-wait` was called
        ("paused", True, "resume"),
        ("paused", False, "resume"),
        ("saved", True, "restore"),
        ("saved", False, "restore"),
        ("off", True, "start"),  # what it said before it was stopped does not count
        ("off", False, "start"),
        ("crashed", True, "start"),
        ("crashed", False, "start"),
    ],
)
def test_what_is_there_is_brought_back(state: State, ready: bool, act: Act | None) -> None:
    others = [node("running", 2, ready=True)]
    of_head = course.find("boot", [head(state, ready=ready), node(state), *others])
    assert of_head.acts == ({"head": act} if act else {})
    of_node = course.find("start", [HEAD, node(state, ready=ready), *others])
    assert of_node.acts == ({"node1": act} if act else {})
    assert course.find("install", [HEAD, node(state, ready=ready), *others]) == Course(), "it stays installed"
    assert not of_head.anew and not of_node.anew


@pytest.mark.parametrize("state", [None, "off", "running", "paused", "crashed"])
def test_what_was_never_installed_is(state: State | None) -> None:
    machines = [HEAD, node("off", 1), node(state, 2, installed=False)]
    assert course.find("install", machines).acts == {"node2": "install"}


def test_a_node_that_answers_has_been_installed_though_nobody_noted_it() -> None:
    assert course.find("install", [HEAD, node("running", ready=True, installed=False)]) == Course()


def test_each_machine_has_a_way_of_its_own() -> None:
    machines = [
        HEAD,
        node("off", 1),
        node("paused", 2, ready=True),
        node("saved", 3, ready=True),
        node("running", 4),
        node("running", 5, ready=True),
        node("off", 6),
    ]
    found = course.find("start", machines)
    assert found.acts == {"node1": "start", "node2": "resume", "node3": "restore", "node4": "wait", "node6": "start"}
    assert found.reason == (
        "node1, node6 to be started; node2 to be resumed; node3 to be restored; node4 to be waited for"
    )


@pytest.mark.parametrize(
    ("machines", "deployed", "deploy"),
    [
        ([node("running", ready=True)], True, False),
        ([node("paused", ready=True), node("saved", 2, ready=True)], True, False),  # they go on where they were
        ([node("off", ready=True)], True, True),
        ([node("running")], True, True),
        ([node("paused")], True, True),
        ([node("running", ready=True)], False, True),  # a script failed, or the run was ended before it
    ],
)
def test_opkgs_are_told_when_nodes_have_booted(machines: list[Seen], deployed: bool, deploy: bool) -> None:
    found = course.find("start", [HEAD, *machines], deployed=deployed)
    assert found.deploy is deploy
    assert bool(found.reason) == bool(deploy or found.acts)
    for phase in ("boot", "install"):
        assert not course.find(phase, [HEAD, *machines], deployed=deployed).deploy


@pytest.mark.parametrize("phase", ["boot", "install", "start"])
def test_machines_of_older_artifacts_are_named_with_what_is_lost(phase: Phase) -> None:
    machines = [
        HEAD,
        node("saved", 1, changed=("disk", "image")),
        node("running", 2, changed=("disk", "image")),
        node("saved", 3, changed=("image",)),
    ]
    found = course.find(phase, machines)
    assert found == Course(
        anew="node1, node2 are made of older artifacts: disk, image; node3 is made of older artifacts: image",
        lost=("node1", "node3"),
    )
    assert found.reason == found.anew


@pytest.mark.parametrize(
    ("state", "act"),
    [("running", "restart"), ("paused", "restart"), ("saved", "restart"), ("off", "start"), ("crashed", "start")],
)
@pytest.mark.parametrize("ready", [True, False])
def test_another_definition_restarts_that_machine_alone(state: State, act: Act, ready: bool) -> None:
    machines = [HEAD, node(state, 1, ready=ready, changed=("definition",)), node("running", 2, ready=True)]
    found = course.find("start", machines)
    assert (found.acts, found.deploy, found.anew) == ({"node1": act}, True, "")
    assert found.lost == (("node1",) if state == "saved" else ())
    assert course.find("boot", machines) == course.find("install", machines) == Course()
    if act == "restart":
        assert found.reason == "node1 to be restarted with another definition"


def test_the_head_node_is_restarted_alone_too() -> None:
    machines = [Seen("head", True, "running", ready=True, changed=("definition",)), node("running", ready=True)]
    assert course.find("boot", machines).acts == {"head": "restart"}
    assert course.find("start", machines) == Course()


def test_a_definition_is_not_all_that_has_changed() -> None:
    machines = [HEAD, node("running", ready=True, changed=("definition", "image"))]
    assert course.find("start", machines).anew == "node1 is made of older artifacts: definition, image"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Change(("node3", "node4")), "node3, node4 to be added"),
        (Change((), ("node2",)), "node2 to be taken away"),
        (Change(("a",), ("b",)), "a to be added; b to be taken away"),
        (Change(), "the machines to be told what has changed of the cluster"),
    ],
)
def test_what_a_recipe_says_of_nodes_by_now_is_said_first(change: Change, reason: str) -> None:
    machines = [HEAD, node("running", ready=True)]
    found = course.find("boot", machines, change=change)
    assert (found.reason, found.acts, found.change) == (reason, {}, change)
    assert course.find("start", machines, change=change) == Course(), "that is done when the head node is up"
    added = [*machines, node(None, 3, installed=False)]
    assert course.find("install", added, change=change).acts == {"node3": "install"}


def test_a_cluster_without_a_head_node_is_made_anew() -> None:
    found = course.find("boot", [head(None), node("saved")])
    assert found == Course(anew="there is no head node", lost=("node1",))


def test_nothing_is_lost_and_nobody_forgotten_whatever_the_states() -> None:
    """Every combination of states: without older artifacts nothing is made anew, and each that is down is acted on."""
    states: list[State] = ["running", "paused", "off", "crashed", "saved"]
    for of_head, first, second, ready in itertools.product(states, states, states, (False, True)):
        machines = [head(of_head, ready=ready), node(first, 1, ready=ready), node(second, 2, ready=ready)]
        acts = {
            name: act
            for phase in ("boot", "install", "start")
            for name, act in course.find(phase, machines).acts.items()
        }
        assert not any(course.find(phase, machines).anew for phase in ("boot", "install", "start"))
        assert "install" not in acts.values()
        assert acts.keys() == {item.name for item in machines if item.state != "running" or not ready}
        assert {name for name, act in acts.items() if act == "restore"} == {
            item.name for item in machines if item.state == "saved"
        }


def test_many_names_are_not_all_told() -> None:
    machines = [HEAD, *(node("off", number) for number in range(1, 201))]
    assert course.find("start", machines).reason == ("node1, node2, node3, node4, node5 and 195 more to be started")
