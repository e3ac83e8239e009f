"""One cluster's place on a VM container that runs Xen: its bridges, disks and kernels there.

Everything of a cluster lies in `/var/lib/xen-oscar/CLUSTER` on the container, and its bridges carry its name, so that
several clusters share one.  Generated disks are handed to the testbed as they are; to any other container they are
brought once, by digest, and every start gets copies.
"""

from __future__ import annotations

import contextlib
import getpass
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline import events, naming
from pipeline.description import Cluster, Machine
from pipeline.errors import ClusterError
from pipeline.holding import Holder
from pipeline.hypervisor import domain
from pipeline.hypervisor.disks import Given
from pipeline.hypervisor.domain import Accelerator
from pipeline.hypervisor.namespace import Namespace
from pipeline.hypervisor.pace import Capacity
from pipeline.hypervisor.watch import Home
from pipeline.xenhost import access
from pipeline.xenhost.home import XenHome
from pipeline.xenhost.script import Script
from pipeline.xenhost.testbed import Testbed

_STORE = f"{domain.XEN_FOLDER}/.store"

#: Page tables and rings of a machine take a few MiB besides its memory.
_BESIDES_MIB = 16
#: Seconds that the end of a testbed takes at most.
_ENDING = 10
#: Seconds to copy a disk on the container.
_COPY = 3600


class XenContainer:
    """The place of one cluster on a Xen host, whether the cluster runs or not."""

    def __init__(self, cluster: Cluster, run_dir: Path, uri: str, testbed: Testbed | None) -> None:
        self._cluster = cluster
        self._run_dir = run_dir
        self._testbed = testbed
        self._access = access.of(testbed.uri if testbed else uri)
        self._script = Script(cluster.name)

    def find(self) -> XenHome | None:
        """The cluster's home there, if it was prepared and the container has not been started anew since."""
        alive = self._testbed.alive() if self._testbed else None
        run = self._run_of(alive)
        if (self._testbed and alive is None) or not run:
            return None
        return XenHome(self._cluster.name, self._run_dir, self._access, Script(self._cluster.name, run), alive)

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path], holder: Holder) -> XenHome:
        """Make bridges, bring disks and kernels; machines can be started then.

        What is brought is a copy, and what the testbed was handed it has open: nobody needs to hold artifacts.
        """
        alive = self._alive()
        for folder in ("console", "report"):
            (self._run_dir / folder).mkdir(exist_ok=True)
        self._mark.write_text(f"{self._script.run}\n{self._container(alive)}")
        self._access.run(self._script.of([*self._requirements(self._cluster.machines), *self._preparations()]))
        boot = self._run_dir / "boot"
        boot.mkdir()
        for name, path in kernels.items():
            (boot / name).symlink_to(path)
        self._access.upload_folder(boot, f"{self._script.folder}/boot")
        self._take(disks)
        return XenHome(self._cluster.name, self._run_dir, self._access, self._script, alive)

    def add(self, home: Home, machines: Sequence[Machine], disks: Sequence[Given]) -> None:
        """Make room for more machines of a cluster that runs, and bring their disks."""
        self._script = self._of(home).script
        memory = sum(machine.memory_mib + _BESIDES_MIB for machine in machines)
        self._access.run(self._script.of([*self._requirements(machines), ("require_memory", str(memory)),
                                          ("enlist", *(machine.name for machine in machines))]))
        self._take(disks)

    def remove(self, home: Home, machines: Sequence[str]) -> None:
        """Take the disks and saved memory of machines that have ended; block devices of the container stay."""
        if self._testbed:
            for name in machines:
                self._testbed.detach(self._cluster.name, name)
        self._access.run(self._of(home).script("remove", *machines))
        for name in machines:
            (self._run_dir / "disks" / f"{name}.qcow2").unlink(missing_ok=True)

    def check(self, home: Home) -> None:
        """Raise ClusterError where machines can't be started because something has gone since the cluster was."""
        self._access.run(self._of(home).script("require_bridges"))

    def capacity(self, accelerator: Accelerator) -> Capacity:
        """The testbed's processors are this machine's; any other container has real ones."""
        serving = self._cluster.head.cpus
        if self._testbed:
            return Capacity(self._testbed.host.cpus, accelerator, serving)
        return Capacity(int(self._access.run("xl info nr_cpus").stdout), "kvm", serving)

    def require_memory(self, accelerator: Accelerator, machines: Sequence[Machine]) -> None:
        """That is asked there, when the cluster is prepared, and when libvirt makes a domain."""

    def stop(self) -> None:
        """End the cluster's machines, take its disks and bridges away."""
        home = self.find()
        if home is not None:
            try:
                self._access.run(home.script("clear"))
                if self._testbed:
                    self._testbed.detach(self._cluster.name)
            except ClusterError:
                if not home.ends_with_testbed(within=_ENDING):
                    raise
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

    def consoles(self, home: Home, names: Sequence[str],
                 failed: Callable[[ClusterError], None]) -> contextlib.AbstractContextManager[None]:
        """Bring what machines write here; see XenHome."""
        return self._of(home).consoles(names, failed)

    # --- the container's side

    @property
    def _mark(self) -> Path:
        """Tells the word of the cluster's last start, and on which start of the container that was."""
        return self._run_dir / "container"

    def _run_of(self, alive: Namespace | None) -> str:
        """The word of the cluster's last start; "" where there was none since the container itself was started."""
        run, _, container = self._mark.read_text().partition("\n") if self._mark.exists() else ("", "", "")
        return run if container == self._container(alive) else ""

    def _container(self, alive: Namespace | None) -> str:
        return f"{alive.pid} {alive.start}" if alive else self._access.uri

    def _alive(self) -> Namespace | None:
        alive = self._testbed.alive() if self._testbed else None
        if self._testbed and alive is None:
            raise ClusterError(f"{self._testbed.name} does not run", hint=f"doit xenhost:{self._testbed.host.name}")
        return alive

    @staticmethod
    def _of(home: Home) -> XenHome:
        assert isinstance(home, XenHome)
        return home

    @staticmethod
    def _requirements(machines: Sequence[Machine]) -> Iterator[tuple[str, ...]]:
        yield ("require_xen",)
        for machine in machines:
            yield "require_kind", machine.virtualization, machine.name
            if machine.device:
                yield "require_device", machine.device, str(machine.disk_mib), machine.name

    def _preparations(self) -> Iterator[tuple[str, ...]]:
        owner = f"{getpass.getuser()} on {socket.gethostname()} ({self._run_dir})"
        yield "prepare", owner, *(machine.name for machine in self._cluster.machines)
        yield "require_memory", str(sum(machine.memory_mib + _BESIDES_MIB for machine in self._cluster.machines))
        for network in self._cluster.networks:
            bridge = domain.bridge_of(self._cluster.name, network.name)
            if network.host_address:
                yield ("make_bridge", bridge, network.host_address, network.cidr,
                       f"end that cluster, or give this one another networks.{network.name}.cidr")
            else:
                yield "make_bridge", bridge

    def _take(self, disks: Sequence[Given]) -> None:
        if self._testbed:
            self._attach(self._testbed, disks)
        else:
            for disk in disks:
                self._bring(disk)

    def _attach(self, testbed: Testbed, disks: Sequence[Given]) -> None:
        """Hand the testbed what has something on it, or is no device of its own."""
        lines = ["set -e"]
        for disk in disks:
            if disk.device and disk.is_blank:
                continue
            path = testbed.attach(self._cluster.name, disk.name, disk.file, "raw" if disk.readonly else "qcow2",
                                  readonly=disk.readonly)
            place = f"{self._script.folder}/disks/{disk.name}"
            lines += [f"udevadm wait --timeout=60 {path}", f"ln -sfn {path} {place}"]
            if disk.device:
                lines.append(f"sh -c {shlex.quote(self._script('fill', disk.device, place))}")
        self._access.run("\n".join(lines), within=_COPY)

    def _bring(self, disk: Given) -> None:
        """Upload a disk if it is not there yet, under its digest; every start gets a copy of its own."""
        file = disk.digest.replace(":", "-")
        kept = f"{_STORE}/{file}"
        place = f"{self._script.folder}/disks/{disk.name}"
        if not disk.digest:  # secret, and this start's own
            self._access.upload(disk.file, place)
            return
        if disk.is_blank:  # nothing but its size, which need not be brought
            if not disk.device:
                self._access.run(f"truncate -s {disk.artifact.stat().st_size} {place}")
            return
        mib = (disk.artifact.stat().st_blocks >> 11) + 1
        there = self._access.run(self._script("want", file)).stdout.strip() == "there"
        copies = (not there) + (not disk.readonly and not disk.device)
        self._access.run(self._script("require_room", str(mib * copies)))
        if not there:
            self._access.upload(disk.artifact, kept, lambda percent: events.phase(
                naming.phase("boot", self._cluster.name), disk.name, "upload", percent), uploader=self._cluster.name)
        if disk.device:
            copy: tuple[str, ...] = ("fill", disk.device, kept)
        elif disk.readonly:
            copy = ("ln", "-s", kept, place)
        else:
            copy = ("cp", "--sparse=always", "--reflink=auto", kept, place)
        self._access.run(self._script.of([copy, ("taken", file)]), within=_COPY)

    @property
    def _current(self) -> Script:
        """For what was last started there, if something was."""
        home = self.find()
        return home.script if home else self._script

    def _fetch_logs(self, error: ClusterError) -> None:
        """Keep what Xen and libvirt said there, in the run folder; the error tells its end if it has nothing better."""
        with contextlib.suppress(ClusterError):  # what went wrong first is what is worth telling
            said = self._access.run(self._current("tell_logs")).stdout
            log = self._run_dir / "xenhost.log"
            log.write_text(said)
            events.note(f"{self._cluster.name}: what its VM container said: {log}")
            if error.log is None:
                error.log = log
