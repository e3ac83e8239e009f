"""May builds and clusters have namespaces, mounts and networks of their own, and does KVM work?

Nothing short of trying tells: sysctls, AppArmor, seccomp filters and container runtimes each forbid in a way of
their own.  So the checks start the very namespaces that builds and clusters start.
"""

from __future__ import annotations

import errno
import os
import struct
import tempfile
from pathlib import Path

from pipeline import checkout, confine, sandbox
from pipeline.doctor.finding import Finding, Surroundings
from pipeline.errors import UserError
from pipeline.hosts import obstacles
from pipeline.run import Completed, run
from pipeline.virt import accelerator

#: Overlays as builds make them: whether one can be mounted and written, in memory and on the folder given.
_OVERLAY = """
options=$1 folder=$2
try() {
    mkdir -p "$1/lower" "$1/upper" "$1/work" "$1/merged" &&
    mount -t overlay overlay -o "$options,lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged" &&
    : > "$1/merged/file" && umount "$1/merged"
}
mount --make-rprivate /
try "$folder/disk" && echo disk
mkdir -p "$folder/memory" && mount -t tmpfs tmpfs "$folder/memory" && try "$folder/memory" && echo memory
"""

#: A network as a cluster has it: a bridge, and a tap device on it.
_BRIDGE = """
ip link add doctor0 type bridge && ip tuntap add dev doctor1 mode tap && ip link set doctor1 master doctor0
"""

#: exit(0), by the call that programs for i386 make (int 0x80).
_EXIT = bytes.fromhex("b801000000 31db cd80")


def check_limits(surroundings: Surroundings) -> Finding:
    """What files and sysctls say; the same question that starting a cluster asks first."""
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    obstacle = obstacles.find()
    if obstacle is not None:
        return Finding("permissions", "fail", obstacle.message, obstacle.hint)
    return Finding("permissions", "ok", f"nothing is known to stand in the way of {who}")


def check_namespaces(surroundings: Surroundings) -> Finding:
    """Whether namespaces can be made and mounted in."""
    done = _inside(["mount", "-t", "tmpfs", "tmpfs", "/tmp"])
    if done.status == 0:
        return Finding("namespaces", "ok", "can be made, and mounted in")
    return Finding("namespaces", "fail", _last_line(done), _permission_hint())


def check_identity(surroundings: Surroundings) -> Finding:
    """Who foreign code is if it gets out: in namespaces it is root."""
    who = sandbox.identity()
    if who.obstacle:
        return Finding(
            "root",
            "warn",
            f"builders and machines run as root, with fewer rights: {who.obstacle}",
            "start as an ordinary user, where foreign code that breaks out is that user and no more",
        )
    if who.base is not None:
        return Finding("root", "ok", f"builders and machines run as user id {who.base}, which is nobody's")
    return Finding("root", "ok", "not used: builders and machines run as the user who starts them")


def check_overlay(surroundings: Surroundings) -> Finding:
    """Whether overlays can be mounted: on the disk, and in memory, which is much faster."""
    options = "index=off" if sandbox.identity().uid == 0 else "userxattr"
    writable = os.access(surroundings.artifacts, os.W_OK)
    base = surroundings.artifacts if writable else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=base) as folder:
        sandbox.give(Path(folder))
        done = _inside(["sh", "-c", _OVERLAY, "sh", options, folder], Path(folder))
        # what a mapped root made is not ours to remove
        _inside(["sh", "-c", 'rm -rf "$1/disk" "$1/memory"', "sh", folder], Path(folder))
    places = done.stdout.split()
    if places == ["disk", "memory"]:
        return Finding("overlay mounts", "ok", "work on the disk and in memory")
    if "memory" in places:
        return Finding(
            "overlay mounts",
            "warn",
            f"work in memory but not in {base}",
            "keep 4 GiB of memory free, or put the artifacts on ext4, xfs or btrfs: XEN_OSCAR_ARTIFACTS=FOLDER",
        )
    if "disk" in places:
        return Finding(
            "overlay mounts",
            "warn",
            "work on the disk but not in memory: builds are slower",
            "Linux 6.6 or newer, or root, has them in memory",
        )
    return Finding(
        "overlay mounts",
        "fail",
        _last_line(done),
        "as root: modprobe overlay; in a container, keep the artifacts on a volume, not in the image",
    )


def check_bridge(surroundings: Surroundings) -> Finding:
    """Whether a namespace can have a bridge with a tap device on it."""
    done = _inside(["sh", "-c", _BRIDGE])
    if done.status == 0:
        return Finding("networks", "ok", "bridge and tap device can be made in a namespace")
    line = _last_line(done)
    if "/dev/net/tun" in line:
        hint = "as root: modprobe tun && chmod 0666 /dev/net/tun; in a container, start it with --device /dev/net/tun"
    elif "not supported" in line or "Unknown device type" in line:
        hint = "as root: modprobe bridge"
    else:
        hint = _permission_hint()
    return Finding("networks", "fail", line, hint)


def check_32_bit(surroundings: Surroundings) -> Finding:
    """Whether programs of distributions for i386 run here, as they must while roots are made of them."""
    why = "distributions for i386 cannot be built here"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program"
        program.write_bytes(program_32_bit(_EXIT))
        program.chmod(0o755)
        try:
            done = run([program], timeout=30, check=False)
        except OSError as error:
            known = error.errno == errno.ENOEXEC
            return Finding("32-bit programs", "warn", confine.NO_32_BIT if known else f"not tried: {error}", why)
        except UserError as error:
            return Finding("32-bit programs", "warn", error.message, why)
    if done.status != 0:
        return Finding("32-bit programs", "warn", f"one ended with {done.status} in place of 0", why)
    return Finding("32-bit programs", "ok", "run here, as distributions for i386 need")


def program_32_bit(code: bytes) -> bytes:
    """A program for i386: headers (elf.h), then code, which leaves by itself."""
    place, headers = 0x08048000, 52 + 32
    size = headers + len(code)
    identity = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<2H5I6H", 2, 3, 1, place + headers, 52, 0, 0, 52, 32, 1, 40, 0, 0)
    segment = struct.pack("<8I", 1, 0, place, place, size, size, 5, 0x1000)
    return identity + header + segment + code


def check_accelerator(surroundings: Surroundings) -> Finding:
    """Whether a real kernel boots with KVM, tried anew: what clusters remember may have been so on a busy day."""
    cache = surroundings.artifacts / "cache"
    own = checkout.own_folder(surroundings.recipes.parent, surroundings.artifacts)
    kernel: Path | None = own / "amd64" / "netboot" / "kernel"
    if kernel is None or not kernel.exists():  # then ask with the host's, and leave what clusters remember alone
        kernel, cache = accelerator.host_kernel(), cache / "doctor"
    if kernel is None:
        return Finding("KVM", "warn", "not tried: there is no kernel to boot yet", "ask again after the first build")
    try:
        found = accelerator.find(kernel, cache=cache, anew=True)
    except UserError as error:
        return Finding("KVM", "fail", error.message)
    except OSError as error:  # the answer cannot be remembered there
        return Finding("KVM", "warn", f"not tried: {error}")
    if found.accelerator == "kvm":
        return Finding("KVM", "ok", found.why)
    return Finding("KVM", "warn", found.why, "nothing has to be changed; with KVM machines would be much faster")


def _inside(argv: list[str], *writes: Path) -> Completed:
    """Run a command as builds and machines are run, in namespaces without a network."""
    view = sandbox.View(writes=writes, machines=True)
    try:
        return run([*sandbox.namespace(network=False, view=view), *argv], timeout=30, check=False)
    except UserError as error:  # a missing tool, or no end
        return Completed(tuple(argv), 1, "", error.message)


def _last_line(done: Completed) -> str:
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"it fails with exit status {done.status}"


def _permission_hint() -> str:
    """What usually forbids namespaces where this runs."""
    if in_container():
        return (
            "start the container with --security-opt seccomp=unconfined --security-opt apparmor=unconfined "
            "--cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun"
        )
    switch = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if os.geteuid() != 0 and switch.exists() and switch.read_text().strip() == "1":
        return "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    return "as root: sysctl -w user.max_user_namespaces=10000" if os.geteuid() != 0 else "see the kernel's log: dmesg"


def in_container() -> bool:
    """Whether this looks like a container of Docker, Podman or systemd."""
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv", "/run/systemd/container"))
