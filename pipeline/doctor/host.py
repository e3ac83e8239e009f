"""Is all installed, and is there room?"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import re
import shutil
from pathlib import Path

from pipeline import sandbox
from pipeline.doctor.finding import Finding, Surroundings
from pipeline.errors import UserError
from pipeline.run import run, which

_BOOTSTRAP = "run ./bootstrap: it installs what is missing"
_GIB = 1 << 30

#: The programs whose versions matter to a person who reads the report.
_PROGRAMS = ("qemu-system-x86_64", "libvirtd", "apt-get", "dpkg")
#: What must be importable; the last two come from the distribution.
_MODULES = ("doit", "pydantic", "rich", "zstandard", "libvirt", "guestfs")

#: Free memory below which nothing can run, and below which builds go to the disk.
_MEMORY_LEAST, _MEMORY_GOOD = 1 * _GIB, 4 * _GIB
#: Free disk space below which the main job cannot end, and below which it is soon full.
_DISK_LEAST, _DISK_GOOD = 4 * _GIB, 12 * _GIB
_SHARED_GOOD = 1 * _GIB


def check_modules(surroundings: Surroundings) -> Finding:
    """Whether this Python has all it needs."""
    missing = []
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    python = f"Python {platform.python_version()}"
    if missing:
        return Finding("Python", "fail", f"{python} cannot import {', '.join(missing)}", _BOOTSTRAP)
    version = ".".join(str(part) for part in importlib.import_module("doit").version.VERSION)
    return Finding("Python", "ok", f"{python}, doit {version}")


def check_programs(surroundings: Surroundings) -> Finding:
    """Whether the programs are there, and which versions."""
    missing = [name for name in _PROGRAMS if which(name) is None]
    if missing:
        return Finding("programs", "fail", f"missing: {', '.join(missing)}", _BOOTSTRAP)
    return Finding("programs", "ok", ", ".join(f"{name} {_version(name)}" for name in _PROGRAMS))


def check_memory(surroundings: Surroundings) -> Finding:
    """Whether a head node and two compute nodes fit, and builds beside them."""
    available = sandbox.memory_available()
    text = f"{available / _GIB:.1f} GiB available, {os.cpu_count()} processors"
    if available < _MEMORY_LEAST:
        return Finding("memory", "fail", text, "end other programs, or give the machine more memory: 4 GiB are plenty")
    if available < _MEMORY_GOOD:
        return Finding("memory", "warn", f"{text}: builds use the disk and are slower", "4 GiB would be plenty")
    return Finding("memory", "ok", text)


def check_shared_memory(surroundings: Surroundings) -> Finding:
    """Whether unpacked layers can be kept in memory between builds."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or not os.access(shared, os.W_OK):
        return Finding(
            "/dev/shm",
            "warn",
            "not usable: builds keep unpacked layers on the disk and are slower",
            "as root: mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
        )
    size = shutil.disk_usage(shared).total
    if size < _SHARED_GOOD:
        return Finding(
            "/dev/shm",
            "warn",
            f"{size / _GIB:.2f} GiB: builds keep unpacked layers on the disk",
            "as root: mount -o remount,size=50% /dev/shm; in a container, start it with --shm-size=2g",
        )
    return Finding("/dev/shm", "ok", f"{size / _GIB:.1f} GiB")


def check_artifacts(surroundings: Surroundings) -> Finding:
    """Whether there is room for what is made, and whether it may be written."""
    folder = surroundings.artifacts
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        return Finding(
            "artifacts",
            "fail",
            f"{existing} may not be written",
            "use a checkout of your own, or XEN_OSCAR_ARTIFACTS=FOLDER",
        )
    free = shutil.disk_usage(existing).free
    text = f"{free / _GIB:.1f} GiB free in {existing}"
    hint = "make room (`doit gc` removes what no cluster uses), or XEN_OSCAR_ARTIFACTS=FOLDER on another disk"
    if free < _DISK_LEAST:
        return Finding("artifacts", "fail", text, hint)
    if free < _DISK_GOOD:
        return Finding("artifacts", "warn", text, hint)
    return Finding("artifacts", "ok", text)


def check_guestfs(surroundings: Surroundings) -> Finding:
    """Whether libguestfs finds a kernel that it may read; Ubuntu's are for root only."""
    if os.environ.get("SUPERMIN_KERNEL"):
        return Finding("libguestfs", "ok", f"uses {os.environ['SUPERMIN_KERNEL']} (SUPERMIN_KERNEL)")
    kernels = sorted(Path("/boot").glob("vmlinuz-*"))
    if not kernels:
        return Finding("libguestfs", "warn", "there is no kernel in /boot: `doit inspect` cannot work", _BOOTSTRAP)
    readable = [path for path in kernels if os.access(path, os.R_OK)]
    if not readable:
        return Finding(
            "libguestfs",
            "warn",
            f"{kernels[-1]} may not be read: `doit inspect` cannot work",
            f"as root: chmod 0644 {kernels[-1]}",
        )
    if not any(Path("/lib/modules", path.name.removeprefix("vmlinuz-")).is_dir() for path in readable):
        return Finding("libguestfs", "warn", f"no modules in /lib/modules for {readable[-1].name}", _BOOTSTRAP)
    return Finding("libguestfs", "ok", f"can use {readable[-1]}")


def _version(program: str) -> str:
    """The first thing that looks like a version in what the program says of itself."""
    with contextlib.suppress(UserError):
        done = run([program, "--version"], timeout=20, check=False)
        if found := re.search(r"\d+(\.\d+)+", done.stdout + done.stderr):
            return found.group()
    return "(of unknown version)"
