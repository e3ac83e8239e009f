"""Which accelerator works here: found out by booting a real kernel, because nothing less tells.

In clouds and containers /dev/kvm is often there, libvirt lists it, and even a boot sector runs, yet a real kernel
hangs in it or QEMU gives up.  So the probe boots one, without a root file system: it works if the kernel gets to the
panic that it must end in.  The answer is kept until the host boots anew or QEMU or the kernel changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import CommandError, UserError
from pipeline.hypervisor.domain import Accelerator
from pipeline.run import run, which

_QEMU = "qemu-system-x86_64"
_KVM = Path("/dev/kvm")
_ACL = "as root: setfacl -m u:USER:rw /dev/kvm; rights through group kvm end at a user namespace"
_PANIC = "Kernel panic - not syncing: VFS: Unable to mount root fs"


@dataclass(frozen=True)
class Found:
    """The accelerator to use, and why, in one line for a user."""

    accelerator: Accelerator
    why: str


def find(kernel: Path, *, cache: Path) -> Found:
    """The best accelerator that boots `kernel`; remembered in the folder `cache`."""
    key = _key(kernel)
    known = cache / "accelerator.json"
    try:
        data = json.loads(known.read_text())
        if data.pop("key") == key:
            return Found(**data)
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        pass  # never asked, or damaged: ask (again)
    found = _probe(kernel)
    cache.mkdir(parents=True, exist_ok=True)
    new = known.with_name(f"{known.name}.{os.getpid()}")
    new.write_text(json.dumps({"key": key, **asdict(found)}, indent=1) + "\n")
    new.rename(known)
    return found


def host_kernel() -> Path | None:
    """A kernel of this host that this user may read, the newest first."""
    readable = [path for path in Path("/boot").glob("vmlinuz-*") if os.access(path, os.R_OK)]
    return max(readable, key=lambda path: path.stat().st_mtime, default=None)


def _probe(kernel: Path) -> Found:
    obstacle = _kvm_obstacle()
    if not obstacle:
        obstacle = _boot(kernel, "kvm", within=20)
        if not obstacle:
            return Found("kvm", "KVM: a real kernel boots with it")
        if "Permission denied" in obstacle:
            obstacle = f"no KVM: /dev/kvm may not be opened in a namespace of this user ({_ACL})"
        else:
            obstacle = f"KVM is present, but a real kernel does not boot with it ({obstacle})"
    emulation = _boot(kernel, "tcg", within=120)
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
    command = [_QEMU, "-accel", accelerator, "-cpu", model, "-m", "256", "-nodefaults", "-no-user-config",
               "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", str(kernel.absolute()),
               "-append", "console=ttyS0 panic=-1"]
    try:
        done = run([*_as_in_a_namespace(), *command], timeout=within, check=False)
    except CommandError:
        return f"it hangs: no end after {within:g} s"
    if done.status == 0 and _PANIC in done.stdout:
        return ""
    words = [line for line in done.stderr.splitlines() if line.strip()]
    if words:
        return words[-1].removeprefix(f"{_QEMU}: ").strip()
    return f"QEMU ended with status {done.status}" if done.status else "the kernel did not get to its end"


def _as_in_a_namespace() -> list[str]:
    """How QEMU runs in a cluster's namespace: an ordinary user's rights through groups, as `kvm`, end there."""
    if os.geteuid() == 0:
        return []
    return ["unshare", "--user", "--map-auto", "--map-root-user", "setpriv", "--clear-groups"]


def _key(kernel: Path) -> str:
    """What the answer depends on: this boot of the host, QEMU, the kernel, who asks, and who may open /dev/kvm."""
    qemu = which(_QEMU)
    if qemu is None:
        raise UserError(f"{_QEMU} is missing on this host", hint="run ./bootstrap: it installs what is missing")
    state = Path(qemu).stat()
    parts = [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), str(state.st_mtime_ns), str(state.st_size),
             hashlib.sha256(kernel.read_bytes()).hexdigest(), str(os.geteuid()), _kvm_obstacle()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
