"""How a cluster goes on: from what is seen of its machines to what is done with each, decided here and nowhere else.

`doit cluster:NAME` is what one types to go on, so whatever can be brought back is brought back: a paused machine is
resumed, a saved one restored, one that is off started, one that is on its way waited for; one whose definition is
another now is restarted by that, and nodes that came to the recipe or left it come and go.  The whole cluster is made
anew only where going on makes no sense: it does not run, or it is made of other software than would be taken now.
All disks of a cluster are throwaways; what is lost beyond them is the memory of machines that somebody saved, and
that is named, so that whoever acts on a course can ask first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pipeline.virt.power import State

Phase = Literal["boot", "install", "start"]
Act = Literal["install", "start", "restart", "resume", "restore", "wait"]

_WORDS: Mapping[Act, str] = {
    "install": "to be installed",
    "start": "to be started",
    "restart": "to be restarted with another definition",
    "resume": "to be resumed",
    "restore": "to be restored",
    "wait": "to be waited for",
}
_NAMED = 5


@dataclass(frozen=True)
class Seen:
    """A machine as it is: `state` None = not defined; `ready`: it has said so since it was started; `installed`: that
    was noted; `changed`: roles of what it is made of that are no longer what would be taken."""

    name: str
    is_head: bool
    state: State | None
    ready: bool = False
    installed: bool = False
    changed: tuple[str, ...] = ()

    @property
    def is_redefined(self) -> bool:
        """Whether nothing but its definition has changed: what is on its disk is as it would be now."""
        return self.changed == ("definition",)


@dataclass(frozen=True)
class Change:
    """What the recipe says of a cluster's nodes that it did not say when the cluster was booted: nodes that came to it,
    nodes that left it; or of machines that stayed other things that software inside knows."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """What is done with which machine.  `deploy`: the OPKGs are told afterwards that all nodes are up.  `change`: what
    the machines that run are told of the cluster's names; None = nothing.

    `anew`: why the whole cluster is made anew instead ("" = it is not); `lost`: the machines whose saved memory would
    go.
    """

    acts: Mapping[str, Act] = field(default_factory=dict)
    deploy: bool = False
    change: Change | None = None
    anew: str = ""
    lost: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why there is something to do, "" if there is nothing."""
        if self.anew:
            return self.anew
        names: dict[Act, list[str]] = {}
        for name, act in self.acts.items():
            names.setdefault(act, []).append(name)
        told = [f"{few(items)} {_WORDS[act]}" for act, items in names.items()]
        if self.change is not None:
            told += [f"{few(self.change.added)} to be added"] if self.change.added else []
            told += [f"{few(self.change.removed)} to be taken away"] if self.change.removed else []
            told = told or ["the machines to be told what has changed of the cluster"]
        return "; ".join(told) or ("the OPKGs to be told that all nodes are up" if self.deploy else "")


def find(phase: Phase, machines: Sequence[Seen], *, deployed: bool = True, change: Change | None = None) -> Course:
    """The course of a cluster that runs, for it to get through a phase; phases before it have been got through.

    `deployed`: the OPKGs have been told that all nodes are up.  `change`: since the cluster was booted, of its names.
    """
    if older := _older(machines):
        return anew(older, machines)
    if phase == "boot" and not any(machine.is_head and machine.state for machine in machines):
        return anew("there is no head node", machines)
    concerned = [machine for machine in machines if machine.is_head == (phase == "boot")]
    if phase == "install":
        return Course({machine.name: "install" for machine in concerned if not _has_been_installed(machine)})
    acts = {machine.name: act for machine in concerned if (act := _back(machine))}
    lost = tuple(machine.name for machine in concerned if machine.state == "saved" and acts[machine.name] == "restart")
    booted = any(acts.get(machine.name) in ("start", "restart") or not machine.ready for machine in concerned)
    return Course(
        acts,
        deploy=phase == "start" and (booted or not deployed),
        change=change if phase == "boot" else None,
        lost=lost,
    )


def anew(reason: str, machines: Sequence[Seen]) -> Course:
    """The course of a cluster with which going on makes no sense."""
    return Course(anew=reason, lost=tuple(machine.name for machine in machines if machine.state == "saved"))


def few(names: Sequence[str]) -> str:
    """Some names as a person reads them."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _back(machine: Seen) -> Act | None:
    """What brings a machine back to where it answers; None where it is."""
    if machine.is_redefined and machine.state in ("running", "paused", "saved"):
        return "restart"
    match machine.state:
        case "running":
            return None if machine.ready else "wait"
        case "paused":
            return "resume"
        case "saved":
            return "restore"
        case _:
            return "start"


def _has_been_installed(node: Seen) -> bool:
    # only what has been installed gets ready, whoever noted that or did not
    return node.installed or node.ready


def _older(machines: Iterable[Seen]) -> str:
    """Which machines are made of something else than what would be taken now, and what that is."""
    names: dict[tuple[str, ...], list[str]] = {}
    for machine in machines:
        if machine.changed and not machine.is_redefined:
            names.setdefault(machine.changed, []).append(machine.name)
    return "; ".join(
        f"{few(items)} {'is' if len(items) == 1 else 'are'} made of older artifacts: {', '.join(roles)}"
        for roles, items in names.items()
    )
