"""What on this machine forbids a cluster of its own, as far as one can tell without trying."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from pipeline.errors import UserError
from pipeline.run import which

_TOOLS = ("unshare", "nsenter", "ip", "libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "socat")
_TUN = Path("/dev/net/tun")


def find() -> UserError | None:
    """What on this host forbids a cluster, as far as one can tell without trying."""
    missing = [tool for tool in _TOOLS if which(tool) is None]
    if missing:
        return UserError(
            f"missing on this host: {', '.join(missing)}", hint="run ./bootstrap: it installs what is missing"
        )
    if not _TUN.exists():
        return UserError(
            f"{_TUN} does not exist: virtual machines cannot be given a network",
            hint="as root: modprobe tun; in a container, start it with --device /dev/net/tun",
        )
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return UserError(
            f"{_TUN} may not be opened by {getpass.getuser()}",
            hint="as root: chmod 0666 /dev/net/tun, as udev does; its use is checked anyway",
        )
    if os.geteuid() != 0:
        return _user_obstacle()
    return None


def _user_obstacle() -> UserError | None:
    """What keeps an ordinary user from making a user namespace with more than one user in it."""
    name = getpass.getuser()
    if which("newuidmap") is None or which("newgidmap") is None:
        return UserError(
            "newuidmap is missing on this host",
            hint="install package uidmap (shadow-utils), or run ./bootstrap with sudo",
        )
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        owners = {line.partition(":")[0] for line in path.read_text().splitlines()} if path.exists() else set()
        if not owners & {name, str(os.getuid())}:
            return UserError(
                f"{path} gives no range of ids to {name}",
                hint=f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}",
            )
    for switch, forbids, allows in (
        ("user/max_user_namespaces", "0", "10000"),
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        path = Path("/proc/sys") / switch
        if path.exists() and path.read_text().strip() == forbids:
            return UserError(
                "this host forbids user namespaces to ordinary users",
                hint=f"as root: sysctl -w {switch.replace('/', '.')}={allows}",
            )
    return None
