"""Looking at a cluster: what its machines are and do, asked of libvirt, their report channels and the run's notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.cluster import course, described, records, tried
from pipeline.cluster.course import Change, Course, Seen
from pipeline.description import Cluster
from pipeline.errors import ClusterError
from pipeline.hosts.place import Place
from pipeline.virt import logs, power
from pipeline.virt.connection import Connection, connect
from pipeline.virt.power import Running


class Survey:
    """What is seen of one cluster.  `marks` tells of a machine what it would be made of today: digests by role."""

    def __init__(
        self, cluster: Cluster, place: Place, run_dir: Path, marks: Callable[[str], Mapping[str, str]]
    ) -> None:
        self._cluster = cluster
        self._place = place
        self._run_dir = run_dir
        self._marks = marks
        self._notes = records.Notes(run_dir)

    def course(self, phase: course.Phase) -> Course:
        """How the cluster goes on to get through a phase."""
        home = self._place.find()
        if home is None:
            return Course(anew=f"{self._cluster.name} does not run")
        try:
            change = self._change()
            with connect(home.libvirt_uri) as connection:
                seen = self.seen(connection)
                leaving = self._saved(connection, change.removed if change else ())
        except ClusterError as error:
            # nobody can tell any more what could be restored, but there is memory that somebody wanted to keep
            return Course(anew=error.message, lost=self._kept())
        if told := tried.told(self._run_dir):
            return course.anew(told, seen)
        found = course.find(phase, seen, deployed=self._notes.has("deployed"), change=change)
        if leaving and (found.anew or found.change):
            found = dataclasses.replace(found, lost=(*found.lost, *leaving))
        if found.acts.get(self._cluster.head.name) == "start":
            try:
                self._place.check(home)
            except ClusterError as error:
                return course.anew(error.message, seen)
        return found

    def seen(self, connection: Connection) -> list[Seen]:
        """Every machine as it is now."""
        running = self.running(connection)
        return [self._look(machine.name, running.get(machine.name)) for machine in self._cluster.machines]

    def running(self, connection: Connection) -> dict[str, Running]:
        """The machines of the cluster that libvirt knows, by name."""
        return {
            item.metadata.node: item
            for item in power.machines(connection)
            if item.metadata.cluster == self._cluster.name
        }

    def _look(self, name: str, running: Running | None) -> Seen:
        expected = self._marks(name)
        made_of = dict(running.metadata.artifacts) if running else expected
        changed = [role for role in sorted(expected.keys() | made_of.keys()) if expected.get(role) != made_of.get(role)]
        state = running.state if running else None
        is_installed = self._notes.has(f"installed/{name}")
        seen = Seen(name, name == self._cluster.head.name, state, self._says_ready(name), is_installed, tuple(changed))
        starts = state in (None, "off", "crashed") or seen.is_redefined
        if starts and self._notes.has(f"again/{name}"):
            return dataclasses.replace(seen, ready=False, installed=False)
        return seen

    def _change(self) -> Change | None:
        """What machines that run do not know of the cluster as it is described today."""
        booted = described.read(self._run_dir)
        if booted is None or booted.cluster == self._cluster:
            return None
        before, now = ([machine.name for machine in cluster.machines] for cluster in (booted.cluster, self._cluster))
        return Change(
            tuple(name for name in now if name not in before), tuple(name for name in before if name not in now)
        )

    def _saved(self, connection: Connection, names: Sequence[str]) -> tuple[str, ...]:
        """Those whose memory somebody has saved."""
        running = self.running(connection)
        return tuple(name for name in names if name in running and running[name].state == "saved")

    def _says_ready(self, name: str) -> bool:
        """Whether the machine has said so on its report channel since it was started."""
        try:
            said, _ = logs.last(self._run_dir / "report" / name, 2 * logs.LIMIT)
        except FileNotFoundError:
            return False
        return any(line.partition(b" ")[0] == b"READY" for line in said.splitlines())

    def _kept(self) -> tuple[str, ...]:
        """The machines whose saved memory lies on this machine."""
        return tuple(sorted(path.name for path in (self._run_dir / "saved").glob("*")))
