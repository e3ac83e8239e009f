"""Which accelerator works here: found out by booting a real kernel, because nothing less tells.

In clouds and containers /dev/kvm is often there, libvirt lists it, and even a boot sector runs, yet a real kernel
hangs in it or QEMU gives up.  So the probe boots one, without a root file system: it works if the kernel gets to the
panic that it must end in.  The answer is kept until the host boots anew or QEMU or the kernel changes; that a kernel
does not boot with a KVM that is there only for an hour, as a busy host may have made it too slow.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import sandbox
from pipeline.drivers.domain import Accelerator
from pipeline.errors import CommandError, UserError
from pipeline.files import write_whole
from pipeline.run import run, which

_QEMU = "qemu-system-x86_64"
_KVM = Path("/dev/kvm")
_ACL = "as root: setfacl -m u:USER:rw /dev/kvm; rights through group kvm end at a user namespace"
#: Seconds for which it is believed that a KVM that is there does not work.
_DOUBTED = 3600

#: One at a time: two that try at once make each other slower.
_trying = threading.Lock()

_PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs"


@dataclass(frozen=True)
class Found:
    """The accelerator to use, and why, in one line for a user."""

    accelerator: Accelerator
    why: str


def find(kernel: Path, *, cache: Path, anew: bool = False) -> Found:
    """The best accelerator that boots `kernel`; remembered in the folder `cache`, and asked `anew` if one likes."""
    known = cache / "accelerator.json"
    with _trying:
        key, now = _key(kernel), time.time()
        before = _remembered(known, key)
        if before is not None and not anew and (before.certain or 0 <= now - before.asked < _DOUBTED):
            return before.found
        found = _probe(kernel, emulates=before is not None and before.found.accelerator == "tcg")
        # that there is no KVM for this user is in the key, and needs no doubt
        certain = found.accelerator == "kvm" or bool(_kvm_obstacle())
        write_whole(
            known,
            (json.dumps({"key": key, "asked": now, "certain": certain, **asdict(found)}, indent=1) + "\n").encode(),
        )
        return found


def is_usable() -> bool:
    """Whether KVM is there for this user, as far as one can tell without trying."""
    return not _kvm_obstacle()


def host_kernel() -> Path | None:
    """A kernel of this host that this user may read, the newest first."""
    readable = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(readable, key=lambda path: path.stat().st_mtime, default=None)


@dataclass(frozen=True)
class _Remembered:
    """What was found out before, when (seconds since the epoch), and whether it holds as long as its key does."""

    found: Found
    asked: float
    certain: bool


def _remembered(known: Path, key: str) -> _Remembered | None:
    try:
        data = json.loads(known.read_text())
        if data["key"] == key:
            return _Remembered(Found(data["accelerator"], data["why"]), float(data["asked"]), bool(data["certain"]))
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        pass  # never asked, or damaged
    return None


def _probe(kernel: Path, *, emulates: bool) -> Found:
    """Try; `emulates`: that this kernel boots without KVM is known already."""
    obstacle = _kvm_obstacle()
    if not obstacle:
        obstacle = _boot(kernel, "kvm", within=20)
        if not obstacle:
            return Found("kvm", "KVM: a real kernel boots with it")
        if "Permission denied" in obstacle:
            obstacle = f"no KVM: /dev/kvm may not be opened in a namespace of this user ({_ACL})"
        else:
            obstacle = f"KVM is present, but a real kernel does not boot with it ({obstacle})"
    emulation = "" if emulates else _boot(kernel, "tcg", within=120)
    if emulation:
        raise UserError(f"QEMU boots no kernel on this host: {emulation}", hint="doit doctor looks for the cause")
    return Found("tcg", f"{obstacle}: machines are emulated (TCG), some ten times slower")


def _kvm_obstacle() -> str:
    """Why KVM is out of the question without a trial; "" if it is not."""
    if not _KVM.exists():
        return "no KVM: /dev/kvm does not exist"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return f"no KVM: /dev/kvm may not be opened by this user ({_ACL})"
    return ""


def _boot(kernel: Path, accelerator: Accelerator, *, within: float) -> str:
    """Boot `kernel` with that accelerator; why it did not work, "" if it did."""
    model = "host" if accelerator == "kvm" else "qemu64,-cx16"  # as the domains have it
    command = [
        _QEMU,
        "-accel",
        accelerator,
        "-cpu",
        model,
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-no-reboot",
        "-kernel",
        str(kernel.absolute()),
        "-append",
        "console=ttyS0 panic=-1",
    ]
    try:
        done = run([*_as_in_a_cluster(kernel), *command], timeout=within, check=False)
    except CommandError:
        return f"it hangs: no end after {within:g} s"
    if done.status == 0 and _PANIC in done.stdout:
        return ""
    words = [line for line in done.stderr.splitlines() if line.strip()]
    if words:
        return words[-1].removeprefix(f"{_QEMU}: ").strip()
    return f"QEMU ended with status {done.status}" if done.status else "the kernel did not get to its end"


def _as_in_a_cluster(kernel: Path) -> list[str]:
    """How QEMU runs in a cluster's namespaces: rights through groups, as `kvm`, end there."""
    view = sandbox.View(reads=(kernel.absolute(),), machines=True)
    return [*sandbox.namespace(network=False, view=view), "setpriv", "--clear-groups"]


def _key(kernel: Path) -> str:
    """What the answer depends on: this boot of the host, QEMU, the kernel, who asks, and who may open /dev/kvm."""
    qemu = which(_QEMU)
    if qemu is None:
        raise UserError(f"{_QEMU} is missing on this host", hint="run ./bootstrap: it installs what is missing")
    state = Path(qemu).stat()
    parts = [
        Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        str(state.st_mtime_ns),
        str(state.st_size),
        hashlib.sha256(kernel.read_bytes()).hexdigest(),
        str(sandbox.identity().uid),
        _kvm_obstacle(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
