"""One cluster's place on a host that is given by the URI of its libvirt: its bridges, disks and kernels there.

Everything of a cluster lies in `/var/lib/xen-oscar/CLUSTER` on the host, and its bridges carry its name, so that
several clusters share one.  Generated disks are brought once, by digest, and every start gets copies.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline import events, naming
from pipeline.description import Cluster, Host, Machine
from pipeline.drivers import domain, engines, site
from pipeline.drivers.domain import Accelerator
from pipeline.errors import ClusterError
from pipeline.holding import Holder
from pipeline.hosts import access
from pipeline.hosts.home import GivenHome
from pipeline.hosts.script import Script, functions
from pipeline.hosts.shelf import RemoteShelf, Shelf
from pipeline.virt.accelerator import Found
from pipeline.virt.connection import connect
from pipeline.virt.disks import Given
from pipeline.virt.home import Home
from pipeline.virt.pace import Capacity

_STORE = f"{site.SHARED}/.store"

#: Seconds to copy a disk on the host.
COPY = 3600


class GivenPlace:
    """The place of one cluster on a given host, whether the cluster runs or not; `uri` is that of its libvirt."""

    def __init__(self, host: Host, cluster: Cluster, run_dir: Path, uri: str) -> None:
        self._host = host
        self._cluster = cluster
        self._run_dir = run_dir
        self._access = access.of(uri)
        self._script = Script(cluster.name, host.hypervisor)

    def find(self) -> GivenHome | None:
        """The cluster's home there, if it was prepared, on this start of the host as far as that is known here."""
        if not self._mark.exists():
            return None
        run, _, host = self._mark.read_text().partition("\n")
        try:
            if host == self._identity():
                return self._home(Script(self._cluster.name, self._host.hypervisor, run))
        except ClusterError:
            pass  # it is known not to run
        return None

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path], holder: Holder) -> GivenHome:
        """Make bridges, bring disks and kernels; machines can be started then.

        What is brought is a copy: nobody needs to hold artifacts.
        """
        identity = self._identity()
        for folder in ("console", "report"):
            (self._run_dir / folder).mkdir(exist_ok=True)
        self._mark.write_text(f"{self._script.run}\n{identity}")
        self._access.run(self._script.of([*self._requirements(self._cluster.machines), *self._preparations()]))
        boot = self._run_dir / "boot"
        boot.mkdir()
        for name, path in kernels.items():
            (boot / name).symlink_to(path)
        self._access.upload_folder(boot, f"{self._script.folder}/boot")
        self._take(disks)
        return self._home(self._script)

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """Make room for more machines of a cluster that runs, and bring their disks."""
        self._script = self._of(home).script
        self._access.run(
            self._script.of(
                [*self._requirements(machines), self._memory(machines), ("enlist", *self._listed(machines))]
            )
        )
        self._take(disks)

    def provide(self, home: Home, machine: Machine) -> None:
        calls: list[tuple[str, ...]] = [
            ("provide", f"{machine.name}.{disk.name}", str(disk.size_mib), disk.kind, self._owner)
            for disk in machine.disks
        ]
        if calls:
            self._access.run(self._of(home).script.of(calls))

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        """Take disks and saved memory of machines that have ended; what is kept stays, as block devices do."""
        self._access.run(self._of(home).script("remove", *machines))
        for name in machines:
            (self._run_dir / "disks" / f"{name}.qcow2").unlink(missing_ok=True)

    def kept(self) -> Sequence[str]:
        return self._access.run(self._script("tell_kept", self._owner)).stdout.split()

    def discard(self, disks: Sequence[str]) -> None:
        self._access.run(self._script("discard", self._owner, *disks))

    def check(self, home: Home) -> None:
        """Raise ClusterError where machines can't be started because something has gone since the cluster was."""
        self._access.run(self._of(home).script("require_bridges"))

    def accelerator(self, here: Callable[[], Found]) -> Found:
        found = self._carries[1]
        return Found(
            found,
            f"on {self._host.name} machines run on its processors"
            if found == "kvm"
            else f"on {self._host.name} machines are emulated (TCG), some ten times slower",
        )

    def capacity(self, found: Found) -> Capacity:
        return Capacity(*self._carries, self._cluster.head.cpus)

    def free_mib(self) -> int:
        return int(self._access.run(self._script("free_memory")).stdout)

    def require_memory(self, found: Found, machines: Sequence[Machine]) -> None:
        """That is asked there, when the cluster is prepared, and when libvirt makes a domain."""

    def stop(self) -> None:
        """End the cluster's machines, take its disks and bridges away."""
        home = self.find()
        if home is not None:
            self._clear(home)
        self._mark.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Within the block the cluster lives no longer than this run."""
        with self._access.lease(self._current("clear")), self.explained():
            yield

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """If the block fails, its host's logs are fetched."""
        try:
            yield
        except ClusterError as error:
            self._fetch_logs(error)
            raise

    def consoles(
        self, home: Home, names: Sequence[str], failed: Callable[[ClusterError], None]
    ) -> contextlib.AbstractContextManager[None]:
        """Bring what machines write here; see GivenHome."""
        return self._of(home).consoles(names, failed)

    def shelf(self, home: Home) -> Shelf:
        return RemoteShelf(self._script, self._access.run)

    # --- what kinds of such hosts differ in

    def _identity(self) -> str:
        """What names the host, and its start if that is known here; raises ClusterError where it does not run."""
        return self._access.uri

    def _home(self, script: Script) -> GivenHome:
        return GivenHome(self._cluster.name, self._run_dir, self._access, script)

    def _take(self, disks: Sequence[Given]) -> None:
        """Bring disks there."""
        for disk in disks:
            self._bring(disk)

    def _clear(self, home: GivenHome) -> None:
        """Take away all that the cluster has there."""
        self._access.run(home.script("clear"))

    # --- the host's side

    @functools.cached_property
    def _carries(self) -> tuple[int, Accelerator]:
        """How many processors machines may use there, and how they run on them."""
        processors, accelerator = self._access.run(self._script("carries")).stdout.split()
        return int(processors), "kvm" if accelerator == "kvm" else "tcg"

    @property
    def _owner(self) -> str:
        """Whose cluster it is, for people."""
        return f"{getpass.getuser()} on {socket.gethostname()} ({self._run_dir})"

    @property
    def _mark(self) -> Path:
        """Tells the word of the cluster's last start, and on which start of the host that was."""
        return self._run_dir / "container"

    @staticmethod
    def _of(home: Home) -> GivenHome:
        assert isinstance(home, GivenHome)
        return home

    def _requirements(self, machines: Sequence[Machine]) -> Iterator[tuple[str, ...]]:
        yield ("require_programs",)
        yield ("require_engine",)
        for machine in machines:
            yield "require_kind", machine.virtualization, machine.name
            if machine.device and engines.of(self._host.hypervisor).takes_devices:
                yield "require_device", machine.device, str(machine.disk_mib), machine.name

    def _memory(self, machines: Sequence[Machine]) -> tuple[str, ...]:
        besides = engines.of(self._host.hypervisor).besides_mib
        return "require_memory", str(sum(machine.memory_mib + besides for machine in machines))

    def _listed(self, machines: Sequence[Machine]) -> list[str]:
        return [f"{machine.name}={domain.uuid_of(self._cluster.name, machine.name)}" for machine in machines]

    def _preparations(self) -> Iterator[tuple[str, ...]]:
        yield "prepare", self._owner, *self._listed(self._cluster.machines)
        yield self._memory(self._cluster.machines)
        for network in self._cluster.networks:
            bridge = site.shared(self._cluster.name).bridge(network.name)
            if network.host_address:
                yield (
                    "make_bridge",
                    bridge,
                    network.host_address,
                    network.cidr,
                    f"end that cluster, or give this one another networks.{network.name}.cidr",
                )
            else:
                yield "make_bridge", bridge

    def _bring(self, disk: Given) -> None:
        """Upload what lies below a disk if it is not there yet, under its digest; every start gets a copy of its own,
        and only what the disk has instead of it is brought then."""
        file = disk.digest.replace(":", "-")
        kept = f"{_STORE}/{file}"
        place = f"{self._script.folder}/disks/{disk.name}"
        if not disk.digest:  # secret, and this start's own
            self._access.upload(disk.file, place)
            return
        if disk.is_blank:  # nothing but its size, which need not be brought
            if not disk.device:
                self._access.run(f"truncate -s {disk.size} {place}")
            return
        mib = (disk.stored >> 20) + 1
        there = self._access.run(self._script("want", file)).stdout.strip() == "there"
        self._access.run(self._script("require_room", str(mib * (1 + (not there)))))
        if not there:
            self._access.upload(
                disk.below,
                kept,
                lambda percent: events.phase(naming.phase("boot", self._cluster.name), disk.name, "upload", percent),
                uploader=self._cluster.name,
            )
        calls = [("cp", "--sparse=always", "--reflink=auto", kept, place), ("taken", file)]
        if disk.changes:
            self._access.upload_folder(self._told(disk), f"{place}.changes")
            calls.append(("change", place, f"{place}.changes"))
        if disk.device:
            calls += [("fill", disk.device, place), ("rm", place)]
        self._access.run(self._script.of(calls), within=COPY)

    def _told(self, disk: Given) -> Path:
        """What a disk has instead of what lies below it, as `change` of host.sh takes it."""
        folder = self._run_dir / "changes" / disk.name
        shutil.rmtree(folder, ignore_errors=True)  # of a node that had come before
        folder.mkdir(parents=True)
        (folder / "clusters").symlink_to(disk.artifact.resolve(strict=True))
        (folder / "pieces").write_text("".join(f"{place} {number} {count}\n" for place, number, count in disk.changes))
        return folder

    @property
    def _current(self) -> Script:
        """For what was last started there, if something was."""
        home = self.find()
        return home.script if home else self._script

    def _fetch_logs(self, error: ClusterError) -> None:
        """Keep what engine and libvirt said there in the run folder; the error tells its end where it has no better."""
        with contextlib.suppress(ClusterError):  # what went wrong first is what is worth telling
            said = self._access.run(self._current("tell_logs")).stdout
            log = self._run_dir / "host.log"
            log.write_text(said)
            events.note(f"{self._cluster.name}: what its VM container said: {log}")
            if error.log is None:
                error.log = log


def place(host: Host, cluster: Cluster, run_dir: Path, _artifacts: Path) -> GivenPlace:
    """That of one cluster."""
    return GivenPlace(host, cluster, run_dir, host.connection)


def ask(host: Host) -> str:
    """What answers there, in a few words; raises ClusterError unless both the engine and its libvirt do."""
    way = access.of(host.connection)
    said = way.run(f"{functions(host.hypervisor)}\nrequire_programs\nrequire_engine\nsay_engine").stdout.strip()
    with connect(way.uri):
        return f"{said}, libvirt at {way.uri}"
