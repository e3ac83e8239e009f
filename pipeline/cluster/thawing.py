"""A frozen cluster is thawed: a fresh copy of it runs, with its own folder, networks and libvirt, from there on.

Disks are overlays over the frozen ones, memory is copied where it is written.  Both have names in the copy's own folder
(links), so whatever becomes of the frozen cluster, or of other copies, is no matter to one that runs.  Each machine is
told through its report channel what makes it one of its own (`become.pl`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path

from pipeline import events, frozen, sandbox
from pipeline.cluster import described, freezing
from pipeline.cluster.beside import threads
from pipeline.cluster.lifecycle import Lifecycle
from pipeline.drivers import thawed
from pipeline.drivers.domain import Accelerator, name_of
from pipeline.drivers.site import RUN
from pipeline.engine import Engine
from pipeline.errors import ClusterError, NotNow
from pipeline.frozen import Frozen
from pipeline.holding import Holder
from pipeline.hosts import memory
from pipeline.identity import Identity
from pipeline.report.model import Phase
from pipeline.run import run
from pipeline.virt import accelerator, disks, monitor, power
from pipeline.virt.connection import Connection, connect

#: Seconds for a machine to become one of its own, on a busy host, and to copy a disk for data.
_BECOMES, _COPIED = 300, 600
#: Machines that are started at once.
_LANES = 8
#: Bytes of random numbers that each machine gets.
_RANDOM = 64
#: What a pipe holds when it may hold more than usual: a machine is told all at once.
_PIPE = 1 << 20
#: MiB that a copy is sure to change of a machine's memory (measured: 54 to 125).
_TOUCHED = 128


def misfits(cold: Frozen, engine: Engine, today: dict[str, str] | None) -> list[str]:
    """Why a copy of a frozen cluster could not run here, or would not be what its recipe asks for; empty where all is
    well.  `today` are the digests of what it would be made of now, by role; None = there is no recipe any more."""
    parts = {role: part.digest for role, part in cold.parts.items()} if today is None else today
    reasons = cold.damage() or cold.differs(parts, freezing.here(_accelerator(cold)))
    if not reasons and not all((engine.store.root / part.key).is_dir() for part in cold.parts.values()):
        reasons = ["artifacts that it stands on are gone"]
    return reasons


def thaw(life: Lifecycle, cold: Frozen, *, same_identity: bool = False) -> None:
    """Run a copy of a frozen cluster; returns when each of its machines is one of its own."""
    runner = life.runner
    with runner.alone():
        if runner.place.find() is not None:
            raise NotNow(f"{life.cluster.name} runs already", hint=f"doit stop:{life.cluster.name} ends it")
        told = memory.require(life.cluster.machines, _accelerator(cold), touched=_TOUCHED)
        if told:
            events.note(f"{life.cluster.name}: {told}")
        started = time.time()
        _lay_out(life, cold, same_identity=same_identity)
        with runner.held(), _holder(life.engine, cold) as holder:
            home = runner.place.start([], {}, holder)
            runner.record(Phase("", "networks and disks", started, time.time(), f"a copy of {cold.cluster.name}"))
            with connect(home.libvirt_uri) as connection, runner.watch(home, connection, "thaw") as watching:
                for machine in life.cluster.machines:
                    watching.expect(machine.name, "thaw", {"READY"}, within=_BECOMES, starts=True)
                with threads(_LANES) as pool:
                    identity = None if same_identity else pool.submit(life.identity)
                    for each in [
                        pool.submit(_start, life, cold, connection, one.name, identity) for one in life.cluster.machines
                    ]:
                        each.result()
                watching.wait()
                for machine in life.cluster.machines:
                    _hang_up(connection, name_of(life.cluster.name, machine.name))
        frozen.used(cold)


def _accelerator(cold: Frozen) -> Accelerator:
    """With what its machines would run here: emulated ones run anywhere."""
    return "kvm" if cold.here["the accelerator"] == "kvm" and accelerator.is_usable() else "tcg"


def _lay_out(life: Lifecycle, cold: Frozen, *, same_identity: bool) -> None:
    """A run folder with all that the copy's machines begin with."""
    run_dir = life.run_dir
    shutil.rmtree(run_dir, ignore_errors=True)
    for place in ("disks", "ram", "report", "saved", "installed"):
        (run_dir / place).mkdir(parents=True)
    run_dir.chmod(0o700)
    described.write(run_dir, life.cluster, life.host, copy_of=cold.cluster.name)
    for note in ("up", "deployed", *(f"installed/{node.name}" for node in life.cluster.nodes)):
        life.runner.notes.add(note)
    own = {f"{machine.name}.qcow2" for machine in life.cluster.machines}
    with threads(_LANES) as pool:
        list(pool.map(lambda disk: _disk(disk, run_dir / "disks", is_own=disk.name in own), _disks(cold)))
    for machine in life.cluster.machines:
        for number in range(1, len(life.cluster.machines) + 1):  # whichever of them it is that libvirt starts it as
            kept = run_dir / "ram" / thawed.memory_file(name_of(life.cluster.name, machine.name), number)
            kept.parent.mkdir(parents=True)
            kept.hardlink_to(cold.folder / "ram" / machine.name)
        report = run_dir / "report" / machine.name
        report.touch()
        into, out = thawed.pipes(str(report))
        os.mkfifo(into, 0o600)
        Path(out).symlink_to(report.name)
    for path in (run_dir / "ram").rglob("*"):
        sandbox.give(path)
    if same_identity:
        shutil.copytree(cold.folder / "identity", run_dir / "identity")


def _disks(cold: Frozen) -> list[Path]:
    return sorted((cold.folder / "disks").iterdir())


def _disk(disk: Path, folder: Path, *, is_own: bool) -> None:
    """A disk of the copy: what machines write to is over the frozen one, or copied where that is no overlay."""
    if is_own:
        below = disks.frozen_below(folder / disk.name)
        below.hardlink_to(disk)
        # a name without folder, for the copy's libvirt sees this one elsewhere
        run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", below.name, folder / disk.name], timeout=60
        )
    elif disk.name in ("sis.qcow2", "identity.img"):  # which are only read
        (folder / disk.name).hardlink_to(disk)
    else:
        run(["cp", "--sparse=always", disk, folder], timeout=_COPIED)


@contextlib.contextmanager
def _holder(engine: Engine, cold: Frozen) -> Iterator[Holder]:
    """Holds what the disks stand on, for as long as the copy lives."""
    holder = Holder(engine.store.root)
    try:
        if not holder.hold(part.key for part in cold.parts.values()):
            raise NotNow(f"artifacts that frozen {cold.cluster.name} stands on are gone", hint="it must be frozen anew")
        yield holder
    finally:
        holder.hand_over()


def _start(
    life: Lifecycle, cold: Frozen, connection: Connection, machine: str, identity: Future[Identity] | None
) -> None:
    """Start one machine, give it the state that was frozen, and let it go on: what it is told waits for it."""
    name = name_of(life.cluster.name, machine)
    later = thawed.of_copy((cold.folder / "domains" / machine).read_text(), life.cluster.name)
    number = power.start_paused(connection, thawed.awaiting(later), later)
    if not 1 <= number <= len(life.cluster.machines):
        raise ClusterError(f"{machine}: libvirt has not found its memory")
    monitor.read_state(
        connection, name, cold.folder / "state" / machine, folder=life.run_dir / "saved", seen=f"{RUN}/saved"
    )
    _tell(life.run_dir / "report" / machine, _words(machine, cold, identity.result() if identity else None))
    power.resume(connection, name)


def _words(machine: str, cold: Frozen, identity: Identity | None) -> Iterable[str]:
    """What a machine is told; without an identity it keeps the one that it has."""
    yield f"time {time.time():.3f}"
    yield f"random {secrets.token_hex(_RANDOM)}"
    if identity is not None:
        given = identity.files(machine)
        before = Identity(cold.folder / "identity", cold.cluster).files(machine)
        for path, file in given.items():
            content = file.read_bytes()
            if path not in before or before[path].read_bytes() != content:
                yield f"file {stat.S_IMODE(file.stat().st_mode):o} {path.encode().hex()} {content.hex()}"
    yield "end"


def _tell(report: Path, words: Iterable[str]) -> None:
    """Say it all into a machine's report channel."""
    data = "".join(f"{line}\n" for line in words).encode()
    descriptor = os.open(thawed.pipes(str(report))[0], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if len(data) > fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, max(_PIPE, len(data)))
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _hang_up(connection: Connection, name: str) -> None:
    """Nobody listens to its report channel any more until it is started once more: it could fill the disk."""
    monitor.ask(connection, name, "chardev-change", id="charchannel0", backend={"type": "null", "data": {}})
