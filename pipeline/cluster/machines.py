"""The machines of a running cluster one by one: which there are, and actions on some of them."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.cluster.acting import Acting, Action, Effect, Line, Today, Told, Watcher
from pipeline.description import Cluster
from pipeline.errors import NotNow
from pipeline.hosts.place import Place, required
from pipeline.virt.connection import Connection, connect
from pipeline.virt.hardware import Block
from pipeline.virt.home import Home
from pipeline.virt.power import State

#: What makes sense for machines that are all in that state, as words to be typed; the second is " MACHINE" or "".
Advice = Callable[[State, str], str]


class Machines:
    """The machines of one cluster that runs.

    `alone` keeps others from changing the cluster meanwhile; `watcher` makes a watch of its machines.
    """

    def __init__(
        self,
        cluster: Cluster,
        place: Place,
        run_dir: Path,
        alone: Callable[[], AbstractContextManager[None]],
        watcher: Watcher,
        today: Today = lambda _name, _started: None,
    ) -> None:
        self.cluster = cluster
        self._place = place
        self._run_dir = run_dir
        self._alone = alone
        self._watcher = watcher
        self._today = today

    def runs(self) -> bool:
        """Whether the cluster runs."""
        return self._place.find() is not None

    def lines(self) -> list[Line]:
        """Every machine that is defined, in the manifest's order; ClusterError where the cluster does not run."""
        with self._connected() as acting:
            return list(acting.known().values())

    def disks(self) -> dict[str, list[Block]]:
        """The disks of every machine that is defined, by its name."""
        with self._connected() as acting:
            return {name: acting.disks(name) for name in acting.known()}

    def definitions(self) -> dict[str, tuple[str, bool]]:
        """How every machine that is defined is started next, in libvirt's notation, and whether today's recipe has
        changed that."""
        with self._connected() as acting:
            return {name: acting.definition(name) for name in acting.known()}

    def adjust(self, wanted: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, str, Effect]]:
        """Give machines that run what they shall have, as far as their engine can: machine, what of it, what came of
        that.  `wanted` is "memory_mib" or "cpus" by machine."""
        with self._alone(), self._connected() as acting:
            known = acting.known()
            for name, values in wanted.items():
                state = known[name].state if name in known else None
                for what, value in values.items():
                    yield name, what, acting.adjust(name, state, what, value)

    def over(self, home: Home, connection: Connection) -> Acting:
        """What can be done to them, for whoever is connected and alone already."""
        return Acting(self.cluster, self._place, self._run_dir, self._watcher, home, connection, self._today)

    def act(
        self,
        action: Action,
        names: Sequence[str],
        args: argparse.Namespace,
        advice: Advice = lambda _state, _machine: "",
    ) -> Iterator[Told]:
        """Do it to these machines, or to all for which it makes sense; what became of each, as it happens.

        Raises NotNow where it makes no sense for one that is named, and nothing is done then.
        """
        with self._alone(), self._connected() as acting:
            yield from action.do(acting, self._choose(action, names, acting, advice), args)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Acting]:
        home = required(self._place.find(), self.cluster.name)
        with connect(home.libvirt_uri) as connection:
            yield self.over(home, connection)

    def _choose(self, action: Action, names: Sequence[str], acting: Acting, advice: Advice) -> list[str]:
        """The machines meant, in the manifest's order."""
        known = acting.known()
        for name in names:
            if name not in known:
                raise NotNow(f"{name} is not installed yet", hint=f"doit cluster:{self.cluster.name}")
            state = known[name].state
            if state not in action.states:
                raise NotNow(f"{name} is {state}: {action.otherwise}", hint=advice(state, f" {name}"))
        chosen = [
            line.machine
            for line in known.values()
            if line.state in action.states and (not names or line.machine in names)
        ]
        if not chosen:
            told = ", ".join(f"{line.machine} is {line.state}" for line in known.values())
            states = {line.state for line in known.values()}
            raise NotNow(f"{told}: {action.otherwise}", hint=advice(states.pop(), "") if len(states) == 1 else "")
        return chosen
