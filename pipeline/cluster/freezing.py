"""A verified cluster is frozen: its machines are held for some seconds, what they are is written down, and they go on.

Only clusters on QEMU in a private place can be, and only as they were verified.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline import events, frozen, trouble
from pipeline.cluster import freezable
from pipeline.cluster.beside import threads
from pipeline.cluster.lifecycle import Lifecycle, verdict_line
from pipeline.description import Machine
from pipeline.drivers import thawed
from pipeline.drivers.domain import Accelerator, name_of
from pipeline.drivers.site import RUN
from pipeline.errors import ClusterError, CommandError, NotNow
from pipeline.figures import size
from pipeline.frozen import Frozen, Part
from pipeline.hosts import ram
from pipeline.hosts.namespace import Namespace
from pipeline.run import cleaning_up, run, spawn
from pipeline.shell import ClusterShell
from pipeline.virt import disks, monitor, power
from pipeline.virt.connection import Connection, connect

#: What waits on each machine for what makes a copy of it another machine.
_BECOME = Path(__file__).with_name("become.pl")
#: Seconds for that to begin, and for the memory or a disk of a machine to be copied.
_BEGUN, _COPIED = 120, 900
#: What lets machines go on when nobody holds them any more.
_GO_ON = 'cat >/dev/null; for name; do virsh --connect "$0" resume "$name"; done >/dev/null 2>&1'
#: Machines that are worked on at once.
_LANES = 8


def freeze(life: Lifecycle) -> Frozen:
    """Freeze a cluster that is up and verified; it runs on afterwards."""
    freezable.require(life)
    name = life.cluster.name
    with contextlib.ExitStack() as stack:
        stack.enter_context(life.runner.alone())
        verdict = _require_verified(life)
        home = life.runner.home()
        assert isinstance(home, Namespace)
        folder = stack.enter_context(frozen.making(life.engine.own, name))
        for place in ("state", "ram", "disks", "domains"):
            (folder / place).mkdir()
        shutil.copytree(life.identity().folder, folder / "identity")
        disks.require_space(folder, freezable.most_mib(life))  # all memory, and what the disks take
        shell = life.shell()
        with connect(home.libvirt_uri) as connection, shell.connected(), _waiting(shell):
            accelerators = {line.accelerator for line in life.machines().over(home, connection).known().values()}
            with _held(life, connection):
                # one after the other, and here: who is interrupted leaves no machine's monitor in between
                for machine in life.cluster.machines:
                    _take(life, connection, machine, folder)
                with threads(_LANES) as pool:
                    copied = [pool.submit(_copy_memory, home, name, one, folder) for one in life.cluster.machines]
                    _copy(life.run_dir / "disks", folder / "disks")
                    for each in copied:
                        each.result()
        made = Frozen(
            folder=frozen.folder(life.engine.own, name),
            cluster=life.cluster,
            host=life.host,
            parts=_parts(life),
            here=here(*accelerators),
            machines={machine.name: thawed.kind((folder / "domains" / machine.name).read_text())
                      for machine in life.cluster.machines},
            sizes={},
            verdict=verdict,
            when=time.time(),
        )  # fmt: skip
        frozen.publish(folder, made)
        return made


def by_itself(life: Lifecycle) -> None:
    """Freeze a cluster that has passed, though nobody has asked for it: what becomes of that is told, and is no failure
    of anything."""
    started = time.monotonic()
    try:
        cold = freeze(life)
    except Exception as error:
        explained = trouble.explain(error, trouble.usual_places())
        if explained is None:
            raise
        events.note(f"{life.cluster.name}: not frozen: {explained.message}")
    else:
        events.note(told(cold.cluster.name, cold.taken, time.monotonic() - started))


def told(cluster: str, taken: int, seconds: float) -> str:
    """That it is frozen, for people."""
    return f"{cluster}: frozen in {seconds:.1f} s, {size(taken)}; doit thaw {cluster} wakes a copy"


def here(accelerator: Accelerator) -> dict[str, str]:
    """What of this machine the state of a frozen machine depends on."""
    found: dict[str, str] = {"the accelerator": accelerator}
    for what, tool in (("QEMU", "qemu-system-x86_64"), ("libvirt", "libvirtd")):
        found[what] = run([tool, "--version"], timeout=30).stdout.partition("\n")[0]
    if accelerator == "kvm":  # whose guests have this machine's processor
        words = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        found["the processor"] = next((words[key].strip() for key in words if key.startswith("model name")), "unknown")
    return found


def _require_verified(life: Lifecycle) -> str:
    """A line on the verdict of a cluster that is up as it was verified; raises NotNow where it is not."""
    name = life.cluster.name
    hint = f"doit cluster:{name} brings it up and verifies it; then freeze it"
    if not life.machines().runs():
        raise NotNow(f"{name} does not run", hint=hint)
    if not life.runner.is_built():
        raise NotNow(f"{name} runs, and is not what would be built today", hint=hint)
    for phase in ("boot", "install", "start"):
        reason = life.runner.survey.course(phase).reason
        if reason:
            raise NotNow(f"{name} is not as it would be today: {reason}", hint=hint)
    differs = life.added.told(machine.name for machine in life.cluster.machines)
    if differs:
        raise NotNow(f"{name} differs from its recipe: {differs}", hint=f"doit stop:{name}, then {hint}")
    verdict = life.verdict()
    if verdict is None or verdict.outcome != "passed":
        raise NotNow(f"{name} has no verdict on what it is made of", hint=hint)
    return verdict_line(verdict)


def _parts(life: Lifecycle) -> dict[str, Part]:
    found = {}
    for role, task in life.made.parts().items():
        entry = life.engine.entry(task)
        found[role] = Part(task, entry.key, entry.digest)
    return found


@contextlib.contextmanager
def _waiting(shell: ClusterShell) -> Iterator[None]:
    """Within the block each machine has a process that waits for what a copy of it is told."""
    script = _BECOME.read_bytes()

    begun: list[tuple[str, int]] = []

    def begin(machine: Machine) -> None:
        status, said, complained = shell.run(machine.name, "perl - || exit 1", data=script, timeout=_BEGUN)
        if status != 0 or not said.strip().isdigit():
            raise ClusterError(f"{machine.name}: what tells a copy who it is does not start", tail=complained)
        begun.append((machine.name, int(said)))

    def end(one: tuple[str, int]) -> None:
        with cleaning_up():
            shell.run(one[0], f"kill {one[1]}", timeout=_BEGUN)

    try:
        with threads(_LANES) as pool:
            list(pool.map(begin, shell.cluster.machines))
        yield
    finally:
        with threads(_LANES) as pool:
            list(pool.map(end, begun))


@contextlib.contextmanager
def _held(life: Lifecycle, connection: Connection) -> Iterator[None]:
    """Within the block time stands still for all machines; they go on even if this process is killed."""
    names = [name_of(life.cluster.name, machine.name) for machine in life.cluster.machines]
    # its input ends with this process, and with nothing else: after the block it is ended
    with spawn(["sh", "-c", _GO_ON, connection.uri, *names], stdin=subprocess.PIPE, lasting=True):
        try:
            for name in names:
                power.pause(connection, name)
            yield
        finally:
            with cleaning_up():
                for name in names:
                    power.resume(connection, name)


def _take(life: Lifecycle, connection: Connection, machine: Machine, folder: Path) -> None:
    """Write down what a machine is that is held, but for its memory: definition and state."""
    name = name_of(life.cluster.name, machine.name)
    (folder / "domains" / machine.name).write_text(power.definition(connection, name))
    sockets = life.run_dir / "saved"
    monitor.write_state(connection, name, folder / "state" / machine.name, folder=sockets, seen=f"{RUN}/saved")


def _copy_memory(home: Namespace, cluster: str, machine: Machine, folder: Path) -> None:
    _copy(ram.of(home, name_of(cluster, machine.name), machine.memory_mib << 20), folder / "ram" / machine.name)


def _copy(source: Path, target: Path) -> None:
    """A file, or those of a folder, without what is zero."""
    sources = sorted(source.iterdir()) if source.is_dir() else [source]
    try:
        run(["cp", "--sparse=always", *sources, target], timeout=_COPIED)
    except CommandError as error:
        raise ClusterError(f"{source} cannot be copied", tail=error.tail) from None
