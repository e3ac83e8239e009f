"""One cluster on a VM container that runs Xen: its bridges, disks and kernels there, and what its machines say.

Everything of a cluster lies in `/var/lib/xen-oscar/CLUSTER` on the container, and its bridges carry its name, so that
several clusters share one.  Generated disks are handed to the testbed as they are; to any other container they are
brought once, by digest, and every start gets copies.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import libvirt

from pipeline import events
from pipeline.description import Cluster
from pipeline.errors import ClusterError
from pipeline.hypervisor import domain
from pipeline.hypervisor import lifecycle as machines
from pipeline.hypervisor.connection import connect
from pipeline.hypervisor.console import strip
from pipeline.hypervisor.disks import Given
from pipeline.hypervisor.namespace import Namespace
from pipeline.hypervisor.watch import Home
from pipeline.run import spawn
from pipeline.xenhost import access
from pipeline.xenhost.testbed import Testbed

#: Where xenconsoled keeps what machines write to their consoles (`--log=guest`).
_CONSOLES = "/var/log/xen/console"
_STORE = f"{domain.XEN_FOLDER}/.store"

_REPORT = re.compile(r"^(?:\[[ \d.]+\] )?xen-oscar: ((?:STATUS|READY|DONE|FAIL)\b.*)")

REQUIRE_XEN = """\
[ "$(cat /sys/hypervisor/type 2>/dev/null)" = xen ] && grep -q control_d /proc/xen/capabilities 2>/dev/null || {
    echo 'this machine does not run Xen, or is no dom0: doit xenhost-setup makes a Xen host of a Debian machine' >&2
    exit 1
}
"""


#: libvirt would only say that the domain could not be created.  Where dom0's memory is not fixed, it is made smaller.
_MEMORY = """\
free=$(xl info free_memory)
case $(xl info xen_commandline) in
    *dom0_mem=*) ;;
    *) free=$((free + $(xl list 0 | awk 'NR == 2 {{print $3}}') - 1024)) ;;
esac
[ "$free" -ge {needed} ] || {{
    echo "{needed} MiB of memory are needed, $free MiB are free there: end other clusters, give the machines less, \
or the container more" >&2
    exit 1
}}
"""


@dataclass(frozen=True)
class XenHome:
    """A cluster that lives on a Xen host.  `testbed` is its namespace, if it is one of ours."""

    cluster: str
    run_dir: Path
    access: access.Access
    testbed: Namespace | None

    @property
    def libvirt_uri(self) -> str:
        return self.access.uri

    @property
    def ssh_proxy_command(self) -> str:
        return self.access.proxy_command

    def pidfd(self) -> int:
        """Readable when the testbed ends; another container's end is told by libvirt's connection alone."""
        return self.testbed.pidfd() if self.testbed else os.eventfd(0, os.EFD_CLOEXEC)

    @contextlib.contextmanager
    def consoles(self, names: Sequence[str]) -> Iterator[None]:
        """Within the block what machines write to their consoles is kept here, and their reports are picked out."""
        follow = [f"follow {name} {domain.name_of(self.cluster, name)} {self._seen(name) + 1}" for name in names]
        script = "\n".join((
            f"mkdir -p {_CONSOLES} && cd {_CONSOLES} || exit 1",
            'follow() { [ -e "guest-$2.log" ] || : > "guest-$2.log"',
            '    tail -c "+$3" -F "guest-$2.log" 2>/dev/null | sed -u "s/^/$1 /" & }',
            *follow,
            "cat > /dev/null",  # ends when nobody listens any more
            "trap '' TERM; kill -TERM 0",
        ))
        with spawn(self.access.argv(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                   stderr=subprocess.DEVNULL) as process:
            assert process.stdin is not None and process.stdout is not None
            thread = threading.Thread(target=self._keep, args=(process.stdout,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=5)
        thread.join(timeout=10)

    def _seen(self, name: str) -> int:
        path = self.run_dir / "console" / f"{name}.log"
        return path.stat().st_size if path.exists() else 0

    def _keep(self, lines: IO[bytes]) -> None:
        for line in lines:
            name, _, rest = line.partition(b" ")
            with (self.run_dir / "console" / f"{name.decode()}.log").open("ab") as log:
                log.write(rest)
            found = _REPORT.match(strip(rest.rstrip(b"\n")))
            if found:
                with (self.run_dir / "report" / name.decode()).open("a") as report:
                    report.write(found[1] + "\n")


class XenContainer:
    """The place of one cluster on a Xen host, whether the cluster runs or not."""

    def __init__(self, cluster: Cluster, run_dir: Path, uri: str, testbed: Testbed | None) -> None:
        self._cluster = cluster
        self._run_dir = run_dir
        self._testbed = testbed
        self._access = access.of(testbed.uri if testbed else uri)
        self._folder = f"{domain.XEN_FOLDER}/{cluster.name}"

    def find(self) -> XenHome | None:
        """The cluster's home there, if it was prepared and the container has not been started anew since."""
        mark = self._run_dir / "container"
        alive = self._testbed.alive() if self._testbed else None
        if (self._testbed and alive is None) or not mark.exists() or mark.read_text() != self._mark(alive):
            return None
        return XenHome(self._cluster.name, self._run_dir, self._access, alive)

    def start(self, disks: Sequence[Given], kernels: Mapping[str, Path]) -> XenHome:
        """Make bridges, bring disks and kernels; machines can be started then."""
        alive = self._testbed.alive() if self._testbed else None
        if self._testbed and alive is None:
            raise ClusterError(f"{self._testbed.name} does not run", hint=f"doit xenhost:{self._testbed.host.name}")
        for folder in ("console", "report"):
            (self._run_dir / folder).mkdir(exist_ok=True)
        (self._run_dir / "container").write_text(self._mark(alive))
        self._access.run(REQUIRE_XEN + self._prepare_script())
        boot = self._run_dir / "boot"
        boot.mkdir()
        for name, path in kernels.items():
            (boot / name).symlink_to(path)
        self._access.upload_folder(boot, f"{self._folder}/boot")
        if self._testbed:
            self._attach(self._testbed, disks)
        else:
            self._bring(disks)
        return XenHome(self._cluster.name, self._run_dir, self._access, alive)

    def stop(self) -> None:
        """End the cluster's machines, take its disks and bridges away."""
        home = self.find()
        if home is not None:
            with connect(home.libvirt_uri) as connection:
                for item in machines.machines(connection):
                    if item.metadata.cluster == self._cluster.name:
                        _end(connection.domain(item.name))
            links = "\n".join(f"ip link delete {self._bridge(network.name)} 2>/dev/null"
                              for network in self._cluster.networks)
            self._access.run(f"{links}\nrm -rf {self._folder} {_CONSOLES}/guest-{self._cluster.name}-*.log")
            if self._testbed:
                for name in self._disk_names():
                    self._testbed.detach(f"{self._cluster.name}/{name}")
        (self._run_dir / "container").unlink(missing_ok=True)

    def lease(self) -> contextlib.AbstractContextManager[None]:
        """Nothing there can know that this run was killed: the next one clears up."""
        return contextlib.nullcontext()

    def consoles(self, home: Home, names: Sequence[str]) -> contextlib.AbstractContextManager[None]:
        """Bring what machines write here; see XenHome."""
        assert isinstance(home, XenHome)
        return home.consoles(names)

    # --- the container's side

    def _mark(self, alive: Namespace | None) -> str:
        return f"{alive.pid} {alive.start}" if alive else self._access.uri

    def _bridge(self, network: str) -> str:
        return domain.bridge_of(self._cluster.name, network)

    def _disk_names(self) -> list[str]:
        return [*(machine.name for machine in self._cluster.machines), "sis", "identity"]

    def _prepare_script(self) -> str:
        lines = ["set -e", f"mkdir -p -m 0700 {domain.XEN_FOLDER} {_STORE}", f"rm -rf {self._folder}",
                 f"mkdir -p {self._folder}/disks {self._folder}/boot",
                 f"rm -f {_CONSOLES}/guest-{self._cluster.name}-*.log"]
        for network in self._cluster.networks:
            bridge = self._bridge(network.name)
            lines.append(f"ip link show {bridge} >/dev/null 2>&1 || "
                         f"ip link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
            if network.host_address:
                taken = (f"{network.cidr} is taken there by $taken: end that cluster, or give this one another "
                         f"networks.{network.name}.cidr")
                lines += [
                    f"taken=$(ip -4 -o address show to {network.cidr} | grep -v ' {bridge} ' | awk '{{print $2}}')",
                    f'[ -z "$taken" ] || {{ echo "{taken}" >&2; exit 1; }}',
                    f"ip address replace {network.host_address}/{network.cidr.partition('/')[2]} dev {bridge}"]
            lines.append(f"ip link set {bridge} up")
        # page tables and rings of each take a few MiB besides
        needed = sum(machine.memory_mib + 16 for machine in self._cluster.machines)
        return _MEMORY.format(needed=needed) + "\n".join(lines)

    def _attach(self, testbed: Testbed, disks: Sequence[Given]) -> None:
        lines = ["set -e"]
        for disk in disks:
            path = testbed.attach(f"{self._cluster.name}/{disk.name}", disk.file,
                                  "raw" if disk.readonly else "qcow2", readonly=disk.readonly)
            lines += [f"udevadm wait --timeout=60 {path}", f"ln -s {path} {self._folder}/disks/{disk.name}"]
        self._access.run("\n".join(lines))

    def _bring(self, disks: Sequence[Given]) -> None:
        """Upload what is not there yet, under its digest; every start gets a copy of its own."""
        for disk in disks:
            kept = f"{_STORE}/{disk.digest.replace(':', '-')}"
            place = f"{self._folder}/disks/{disk.name}"
            if not disk.digest:  # secret, and this start's own
                self._access.upload(disk.file, place)
                continue
            if disk.artifact.stat().st_blocks == 0:  # nothing but its size, which need not be brought
                if not disk.device:
                    self._access.run(f"truncate -s {disk.artifact.stat().st_size} {place}")
                continue
            if self._access.run(f"[ -e {kept} ] && echo there || :").stdout.strip() != "there":
                def show(percent: str, name: str = disk.name) -> None:
                    events.phase(f"boot:{self._cluster.name}", name, "upload", percent)

                self._access.upload(disk.artifact, kept, show)
            if disk.device:
                copy = f"dd if={kept} of={shlex.quote(disk.device)} bs=4M conv=fsync status=none"
            elif disk.readonly:
                copy = f"ln -s {kept} {place}"
            else:
                copy = f"cp --sparse=always --reflink=auto {kept} {place}"
            self._access.run(copy, within=3600)


def _end(machine: object) -> None:
    """Power off and forget."""
    for call in ("destroy", "undefine"):
        with contextlib.suppress(libvirt.libvirtError):  # off, or gone, already
            getattr(machine, call)()
