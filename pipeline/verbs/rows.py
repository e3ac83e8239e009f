"""What verbs share: where clusters are found, what is told of machines, and acting on some of a cluster."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import events
from pipeline.cluster.acting import Acting, Action, Told
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.cluster.machines import Advice
from pipeline.columns import Table
from pipeline.errors import UserError
from pipeline.verbs import names
from pipeline.virt.power import State

if TYPE_CHECKING:
    from pipeline.step import Plan


class Clusters(Protocol):
    """Where clusters are found."""

    @property
    def run(self) -> Path:
        """Where those that run have their folders."""

    @property
    def recipes(self) -> Path:
        """The folder of recipes."""

    @property
    def plan(self) -> Plan:
        """What is made of them."""

    def known(self) -> list[str]:
        """All that have a recipe, or may be running without."""

    def booted(self) -> list[str]:
        """Those that may be running."""

    def running(self, name: str) -> Lifecycle:
        """One of them; raises UserError where there is none of that name."""

    def lifecycle(self, name: str) -> Lifecycle:
        """One as its recipe has it; raises UserError where there is no such recipe."""


class Row(Protocol):
    """A frozen dataclass: its fields are what programs read."""

    def text(self) -> str:
        """What people read."""


@dataclass(frozen=True)
class Became:
    """What became of a machine."""

    cluster: str
    machine: str
    result: str

    def text(self) -> str:
        return f"{self.machine}: {self.result}"


@dataclass(frozen=True)
class Verb:
    """What one can do.  `purpose` is for people, `arguments` declares what may be typed after it, `rows` does it and
    tells, as it happens: a row, or an error that concerns only a part.  Those on machines have an `action`.
    """

    purpose: str
    arguments: Callable[[argparse.ArgumentParser], None]
    rows: Callable[[Clusters, argparse.Namespace], Iterator[Row | Table | UserError]]
    action: Action | None = None


def acting(purpose: str, action: Action, options: Callable[[argparse.ArgumentParser], object] = lambda _: None) -> Verb:
    """A verb that does something to machines of one cluster, with options of its own."""

    def arguments(parser: argparse.ArgumentParser) -> None:
        machines_argument(parser)
        options(parser)

    return Verb(purpose, arguments, partial(act, action), action)


def one_by_one(
    do: Callable[[Acting, str], None], result: str
) -> Callable[[Acting, Sequence[str], argparse.Namespace], Iterator[Told]]:
    """Do it to one machine after the other."""

    def do_all(on: Acting, names: Sequence[str], _args: argparse.Namespace) -> Iterator[Told]:
        for name in names:
            do(on, name)
            yield name, result

    return do_all


def machines_argument(parser: argparse.ArgumentParser) -> None:
    """A cluster, and machines of it."""
    parser.add_argument("cluster", help="name of a cluster (recipes/clusters/NAME.toml)")
    parser.add_argument(
        "machines",
        nargs="*",
        metavar="machine",
        help="names or patterns, as node[1-3,7] or 'node*'; without any, all for which it makes sense",
    )


def advice(cluster: str) -> Advice:
    """What one may want next of machines of that cluster."""

    def of(state: State, machine: str) -> str:
        from pipeline.verbs import actions

        fitting = [name for name, action in actions().items() if state in action.follows]
        return " or ".join(f"doit vm {name} {cluster}{machine}" for name in fitting)

    return of


def act(action: Action, clusters: Clusters, args: argparse.Namespace) -> Iterator[Row | UserError]:
    """Do it to the machines that are named, and tell where they are while one waits."""
    life = clusters.running(args.cluster)
    meant = names.expand(args.machines, [machine.name for machine in life.cluster.machines])
    with telling():
        for machine, result in life.machines().act(action, meant, args, advice(args.cluster)):
            yield Became(args.cluster, machine, result)


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Where machines are is told meanwhile, beside the rows."""
    unsubscribe = events.subscribe(_tell)
    try:
        yield
    finally:
        unsubscribe()


def _tell(event: events.Event) -> None:
    if isinstance(event, events.Phase):
        print(f"{event.machine}: {event.phase} {event.detail}".rstrip(), file=sys.stderr)
