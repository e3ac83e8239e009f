"""A cluster's namespaces: where its bridges, its libvirtd and its machines live, apart from the host and each other.

The same for root and for an ordinary user: in a user namespace, where root is that user, or if it is root who starts
the cluster, nobody outside (`sandbox.identity`).  One process, `init.sh`, holds it all:
when that ends, however it ends, the kernel ends every process in there and takes down mounts and bridges.  So nothing
has to be cleaned up, two clusters may use the same addresses, and the whole state on the host is one line,
`init.pid`: process id, start time, boot id.  The three together name a process for good, a process id alone does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shlex
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import sandbox, strays
from pipeline.description import Network
from pipeline.drivers.site import RUN
from pipeline.errors import ClusterError, UserError
from pipeline.exclusive import exclusive
from pipeline.files import write_whole
from pipeline.hosts import obstacles
from pipeline.run import first_line, spawn, which

_INIT = Path(__file__).with_name("init.sh")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_BRIDGE_NAME_LIMIT = 15

#: What of a cluster's run folder libvirt and the machines see, in `site.RUN`: they write there and nowhere else.
_FOLDERS = ("disks", "console", "report", "saved", "ram")
_LOG = "libvirtd.log"
#: Where libvirt keeps its state; each cluster has a libvirt of its own.
_STATE = ("/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt")

_RANGES = "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, with ids that are free"
#: What tools say when something cannot be done here -> what to change.
_HINTS = {
    "unshare failed": "namespaces are forbidden here: in a container, allow unshare and mount "
    "(--security-opt seccomp=unconfined --cap-add SYS_ADMIN --cap-add NET_ADMIN)",
    "uidmap": _RANGES,
    "/etc/sub": _RANGES,
    "Unknown device type": "the kernel has no bridges: as root, modprobe bridge",
    "Operation not supported": "the kernel has no bridges: as root, modprobe bridge",
    "mount:": "mounting is forbidden here: in a container, start it with --cap-add SYS_ADMIN",
}


@dataclass(frozen=True)
class Namespace:
    """The namespaces of a running cluster, named by their first process."""

    run_dir: Path
    pid: int
    start: int

    @property
    def cluster(self) -> str:
        return self.run_dir.name

    @property
    def libvirt_uri(self) -> str:
        """The cluster's libvirt, as whoever started the cluster reaches it from outside."""
        return f"qemu+unix:///system?socket=/proc/{self.pid}/root/run/libvirt/libvirt-sock"

    @property
    def ssh_proxy_command(self) -> str:
        """For ssh's ProxyCommand: ssh, its keys and known hosts stay outside, only the connection is made inside."""
        return shlex.join(self.command(["socat", "-", "TCP:%h:%p,nodelay"]))

    @property
    def kernel_log(self) -> None:
        """This machine's kernel is everybody's: what it says concerns others too."""
        return None

    @property
    def more(self) -> str:
        return "more is in libvirtd.log in the cluster's run folder"

    @property
    def disks_are_here(self) -> bool:
        return True

    def lost(self) -> ClusterError:
        """The error for a cluster that has ended, or whose libvirt has."""
        if _start_time(self.pid) == self.start:
            return ClusterError(
                f"cluster {self.cluster}: its libvirt no longer answers",
                hint=f"doit stop:{self.cluster}, then doit cluster:{self.cluster}",
            )
        return ClusterError(
            f"cluster {self.cluster} was ended from outside", hint=f"doit cluster:{self.cluster} starts it again"
        )

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` as it runs on the cluster's network, on the host's file systems."""
        try:
            foreign = Path(f"/proc/{self.pid}/ns/user").stat().st_ino != Path("/proc/self/ns/user").stat().st_ino
        except PermissionError:
            raise _not_yours(self.cluster) from None
        except FileNotFoundError:
            raise ClusterError(f"cluster {self.cluster} has ended") from None
        user = ["--user", "--preserve-credentials"] if foreign and os.geteuid() != 0 else []
        return ["nsenter", "--target", str(self.pid), *user, "--net", *argv]

    def pidfd(self) -> int:
        """A descriptor that becomes readable when the cluster ends; raises ProcessLookupError if it has."""
        descriptor = os.pidfd_open(self.pid)
        if _start_time(self.pid) != self.start:
            os.close(descriptor)
            raise ProcessLookupError(self.pid)
        return descriptor


def alive(run_dir: Path) -> Namespace | None:
    """The namespaces of the cluster with this run folder, if they still exist.  Costs a few file reads."""
    try:
        pid, start, boot = (run_dir / "init.pid").read_text().split()
        if boot == _BOOT_ID.read_text().strip() and is_alive(int(pid), int(start)):
            return Namespace(run_dir, int(pid), int(start))
    except (FileNotFoundError, ValueError):
        pass
    return None


def is_alive(pid: int, start: int) -> bool:
    """Whether the process with that id and start time (clock ticks since boot) still runs."""
    return _start_time(pid) == start


@contextlib.contextmanager
def lease(run_dir: Path) -> Iterator[None]:
    """Within the block the cluster lives no longer than this process; leaving it normally lets the cluster stay.

    May be taken before the cluster is started, so that there is no moment at which a killed run leaves half a cluster.
    """
    path = run_dir / "lease"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    # read and write: then opening never waits, and what was written waits for whoever reads
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"held\n")
        yield
        os.write(descriptor, b"kept\n")
    finally:
        os.close(descriptor)


def start(
    run_dir: Path,
    networks: Iterable[Network],
    *,
    cache: Path,
    store: Path | None = None,
    within: float = 60,
    keep: Sequence[int] = (),
) -> Namespace:
    """Make the namespaces of a cluster, with a bridge for each network, and start its libvirtd.

    `cache` is where what libvirt found out about QEMU is kept between starts, `store` where the artifacts lie that
    disks lead to.  `keep` are descriptors that stay open for as long as the cluster lives, and with them the locks on
    them.  Ready means: it takes connections.
    """
    bridges = [_bridge(network) for network in networks]
    obstacle = obstacles.find()
    if obstacle:
        raise obstacle
    run_dir = run_dir.absolute()
    with _exclusive(run_dir):
        if alive(run_dir):
            raise ClusterError(f"cluster {run_dir.name} already runs", hint=f"doit stop:{run_dir.name} ends it")
        (run_dir / "init.pid").unlink(missing_ok=True)
        known = _capabilities(cache)
        init = ["/bin/sh", str(_INIT), str(known), *bridges]
        log = run_dir / "namespace.log"
        try:
            with lease(run_dir):
                view = _view(run_dir, known.parent, store)
                first = _launch([*sandbox.namespace(network=False, view=view, lasting=True), *init], log, within, keep)
                write_whole(run_dir / "init.pid", first)
        except BaseException:
            _end(run_dir, within=10)
            raise
        namespace = alive(run_dir)
        if namespace is None:
            raise ClusterError(f"cluster {run_dir.name}: its namespace ended at once", log=log, tail=_tail(log))
        return namespace


def stop(run_dir: Path, *, within: float = 30) -> bool:
    """End a cluster and all that is in its namespaces; False if it did not run.  Returns when all of it is gone."""
    if not run_dir.is_dir():
        return False
    with _exclusive(run_dir):
        return _end(run_dir, within)


def _view(run_dir: Path, known: Path, store: Path | None) -> sandbox.View:
    """What a cluster's libvirt and its machines see: of the run folder, which holds secrets, only what is theirs."""
    for folder in _FOLDERS:
        (run_dir / folder).mkdir(exist_ok=True)
        for path in (run_dir / folder, *(run_dir / folder).iterdir()):
            sandbox.give(path)
    (run_dir / _LOG).touch()
    seen = (*_FOLDERS, _LOG, "lease")
    for path in (known, *(run_dir / name for name in seen)):
        sandbox.give(path)
    return sandbox.View(
        reads=(store,) if store else (),
        writes=(known,),
        folders=_STATE,
        machines=True,
        places=tuple((run_dir / name, f"{RUN}/{name}") for name in seen),
    )


def _launch(argv: list[str], log: Path, within: float, keep: Sequence[int]) -> bytes:
    """Start `init.sh` and wait until it says `ready`; returns what else it says, which process it is."""
    with (
        log.open("wb") as sink,
        spawn(argv, stdout=subprocess.PIPE, stderr=sink, pass_fds=keep, lasting=True) as process,
    ):
        assert process.stdout is not None
        with process.stdout:
            said = first_line(process, within)
        process.wait(timeout=10)
    if said is None or not said.startswith(b"ready "):
        tail = _tail(log)
        what = f"was not ready after {within:g} s" if said is None else "could not be made"
        raise ClusterError(f"cluster {log.parent.name}: its namespace {what}", hint=_hint(tail), log=log, tail=tail)
    return said.removeprefix(b"ready ")


def _end(run_dir: Path, within: float) -> bool:
    namespace = alive(run_dir)
    if namespace is None:
        (run_dir / "init.pid").unlink(missing_ok=True)
        return False
    try:
        with contextlib.ExitStack() as stack:
            network = os.open(f"/proc/{namespace.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, network)
            init = namespace.pidfd()
            stack.callback(os.close, init)
            signal.pidfd_send_signal(init, signal.SIGKILL)
            if not select.select([init], [], [], within)[0]:
                raise ClusterError(
                    f"cluster {run_dir.name}: its processes do not end",
                    hint=f"see what holds up process {namespace.pid} and its children: ps -o pid,stat,wchan,args",
                )
            _clear(os.fstat(network).st_ino)  # which is no other's for as long as we hold it open
    except (FileNotFoundError, ProcessLookupError):
        pass  # it ended by itself meanwhile
    except PermissionError:
        raise _not_yours(run_dir.name) from None
    (run_dir / "init.pid").unlink(missing_ok=True)
    return True


def _clear(network: int) -> None:
    """End what has entered a network from outside, as the ways of ssh connections do: it would keep the bridges."""
    if network != _network_of(os.getpid()):
        strays.end_all(lambda pid: _network_of(pid) == network)


def _network_of(pid: int) -> int:
    """What names the network namespace of a process."""
    return Path(f"/proc/{pid}/ns/net").stat().st_ino


def _exclusive(run_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Nobody else starts or stops this cluster meanwhile.  The folder is its owner's only: it holds secrets."""
    return exclusive(
        run_dir / "lock",
        f"cluster {run_dir.name} is being started or stopped by another run",
        hint="wait for that to end, then try again",
    )


def _bridge(network: Network) -> str:
    """A network as `init.sh` takes it: the bridge, and the host's address on it."""
    if len(network.name) > _BRIDGE_NAME_LIMIT:
        raise UserError(
            f"network {network.name}: a bridge's name has at most {_BRIDGE_NAME_LIMIT} characters",
            hint="give the network a shorter name",
        )
    if not network.host_address:
        return network.name
    return f"{network.name}={network.host_address}/{network.cidr.partition('/')[2]}"


def _capabilities(cache: Path) -> Path:
    """Where to keep what libvirt found out about this QEMU as this user; libvirt itself checks that it still holds."""
    parts = [str(sandbox.identity().uid)]
    for tool in ("libvirtd", "qemu-system-x86_64"):
        state = Path(which(tool) or tool).stat()
        parts.append(f"{state.st_mtime_ns} {state.st_size}")
    folder = cache.absolute() / "libvirt"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"capabilities-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}"


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on; the second, a name in brackets, may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _start_time(pid: int) -> int | None:
    """When that process started; None if there is none, or only what is left of it."""
    try:
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _not_yours(cluster: str) -> UserError:
    return UserError(f"cluster {cluster} was started by another user", hint="use it as the user who started it")


def _hint(tail: str) -> str:
    """What to change, from what the tools said."""
    for words, hint in _HINTS.items():
        if words in tail:
            return hint
    return ""


def _tail(log: Path, lines: int = 12) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
