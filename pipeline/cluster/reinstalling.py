"""Nodes of a cluster that runs are installed anew, over the network and on empty disks, and started: Rocks' shoot-node.

What is begun is written down: killed in between, `doit cluster:NAME` goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.cluster.course import Course
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.errors import NotNow

#: A machine, and what became of it.
Told = tuple[str, str]


def reinstall(life: Lifecycle, nodes: Sequence[str]) -> Iterator[Told]:
    """Install these nodes anew from the image that the head node serves; disks that are kept stay.

    All other machines run on as they are.  Raises NotNow where the head node is not up, or serves another image than
    would be taken today.
    """
    name = life.cluster.name
    with life.runner.alone():
        _require_head(life, nodes)
        states = life.states()
        lost = tuple(node for node in nodes if states.get(node) == "saved")
        life.require_consent(Course(dict.fromkeys(nodes, "install"), lost=lost))
        with life.runner.spared():
            life.runner.notes.remove("deployed")
            life.begin_anew(nodes)
            life.runner.bring("install", Course(dict.fromkeys(nodes, "install")))
            life.runner.bring("start", Course(dict.fromkeys(nodes, "start")))
            left = life.runner.survey.course("start")
            if not left.acts:  # OPKGs are told that all nodes are up, which they are
                life.deploy()
        for node in nodes:
            yield node, "installed anew, and ready"
        if left.acts:
            yield "", f"the OPKGs are told of it by doit cluster:{name}, when all nodes are up: {left.reason}"


def _require_head(life: Lifecycle, nodes: Sequence[str]) -> None:
    """Raise NotNow unless the head node can install these nodes as today's recipe has them."""
    name, survey = life.cluster.name, life.runner.survey
    reason = "" if life.runner.is_built() else "not all that it is made of is built"
    reason = reason or survey.course("boot").reason or survey.course("start").anew
    if life.cluster.head.name in nodes:
        raise NotNow(
            f"{life.cluster.head.name} is the head node, which is not installed over the network",
            hint=f"doit cluster:{name} --fresh makes the whole cluster anew",
        )
    if reason:
        raise NotNow(f"no node of {name} can be installed as its recipe has it: {reason}", hint=f"doit cluster:{name}")
