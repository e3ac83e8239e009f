"""libguestfs: the one place that opens a handle.

The appliance is a small virtual machine with a real kernel; it looks into disks that did not boot without trusting
or changing them.  Under emulation it takes 10 to 20 s to start.

No signal reaches a program while it waits in the library, so that runs in a process of its own, which can be ended;
and since QEMU reads there what a foreign machine has written, in namespaces, as builders do.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.run import run

#: Seconds for all of it, on an emulated processor that others use as well.
_DEADLINE = 900

_PROGRAM = "import sys; from pipeline import appliance; appliance.main(*sys.argv[1:])"


@dataclass(frozen=True)
class Volume:
    """A device of a disk: its file system type, label, UUID and size in bytes."""

    device: str
    type: str
    label: str
    uuid: str
    size: int


@dataclass(frozen=True)
class Inspection:
    """What a disk holds: volumes, and of the installed system its name, packages and last log lines."""

    partition_table: str
    volumes: tuple[Volume, ...]
    mounts: tuple[tuple[str, str], ...]
    system: str
    host_name: str
    packages: tuple[tuple[str, str], ...]
    logs: tuple[tuple[str, str], ...]
    configuration: tuple[tuple[str, str], ...]


#: Where package managers note what is installed: supermin asks them for the files that it makes the appliance from.
_PACKAGES = (Path("/var/lib/dpkg"), Path("/var/lib/rpm"))

#: Files of an installed system that tell most about why it does not boot.
_CONFIGURATION = ("/etc/fstab", "/etc/hostname", "/boot/grub/grub.cfg", "/etc/oscar/nodes")
_LOGS = (
    "/var/log/syslog",
    "/var/log/messages",
    "/var/log/dmesg",
    "/var/log/slurm/slurmd.log",
    "/var/log/slurm/slurmctld.log",
)


#: Bytes of each that are looked at: a machine may have filled its disk with one.
_SHOWN = 64 * 1024
#: Messages of the journal that are looked at, and more than there can be.
_MESSAGES, _ALL_MESSAGES = 60, (1 << 31) - 1


@contextlib.contextmanager
def opened(disk: Path, format: str) -> Iterator[Any]:
    """A launched handle with `disk` attached read-only; also when a machine is using it."""
    import guestfs

    handle = guestfs.GuestFS(python_return_dict=True)
    try:
        handle.set_backend("direct")
        handle.set_backend_setting("force_tcg", "1")  # a KVM device that is there may still not work
        handle.add_drive_opts(str(disk), format=format, readonly=True)
        try:
            handle.launch()
        except RuntimeError as error:
            raise UserError(
                f"libguestfs can't start its appliance: {error}",
                hint="doit doctor; often /boot/vmlinuz-* is not readable to you",
            ) from None
        yield handle
    finally:
        handle.close()


def inspect(
    disk: Path, format: str, *, cache: Path, below: Path | None = None, frozen: Path | None = None
) -> Inspection:
    """Look at the layout of a disk and at the system on it, if there is one.

    The appliance is kept in the folder `cache`; `below` is where the artifacts lie that the disk is an overlay of, and
    `frozen` a disk of another machine that is in between.
    """
    settings = {name: value for name, value in os.environ.items() if name.startswith(("LIBGUESTFS_", "SUPERMIN_"))}
    cache.mkdir(parents=True, exist_ok=True)
    sandbox.give(cache)
    named = [Path(value) for value in settings.values() if value.startswith("/")]
    view = sandbox.View(
        reads=(Path("/boot"), *named, *([below] if below else [])),
        made=(disk, *([frozen] if frozen else []), *_PACKAGES),
        writes=(cache,),
    )
    done = run(
        [*sandbox.namespace(network=False, view=view), sys.executable, "-c", _PROGRAM, disk, format],
        env={"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "LIBGUESTFS_CACHEDIR": str(cache), **settings},
        timeout=_DEADLINE,
    )
    found: Inspection | UserError = pickle.loads(b64decode(done.stdout))
    if isinstance(found, UserError):
        raise found
    return found


def _inspect(disk: Path, format: str) -> Inspection:
    with opened(disk, format) as handle:
        device = handle.list_devices()[0]
        try:
            table = handle.part_get_parttype(device)
        except RuntimeError:
            table = "none"
        volumes = []
        for name, kind in handle.list_filesystems().items():
            with contextlib.suppress(RuntimeError):
                volumes.append(
                    Volume(name, kind, handle.vfs_label(name), handle.vfs_uuid(name), handle.blockdev_getsize64(name))
                )
        roots = handle.inspect_os()
        if not roots:
            return Inspection(table, tuple(volumes), (), "", "", (), (), ())
        root = roots[0]
        mounts = sorted(handle.inspect_get_mountpoints(root).items())
        for place, source in mounts:
            with contextlib.suppress(RuntimeError):  # a broken file system: show what the others hold
                handle.mount_ro(source, place)
        packages = []
        with contextlib.suppress(RuntimeError):  # an installation that broke off has no package database
            packages = [
                (item["app2_name"], "-".join(filter(None, (item["app2_version"], item["app2_release"]))))
                for item in handle.inspect_list_applications2(root)
            ]
        return Inspection(
            table,
            tuple(volumes),
            tuple(mounts),
            handle.inspect_get_product_name(root),
            handle.inspect_get_hostname(root),
            tuple(sorted(packages)),
            (*_journal(handle), *_texts(handle, _LOGS)),
            _texts(handle, _CONFIGURATION),
        )


def _texts(handle: Any, paths: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The ends of those of these that are plain files: a link could lead anywhere, a pipe nowhere."""
    return tuple((path, _end(handle, path)) for path in paths if handle.is_file(path))


def _end(handle: Any, path: str) -> str:
    data = bytes(handle.pread(path, _SHOWN, max(0, handle.filesize(path) - _SHOWN)))
    return data.decode(errors="replace")


def _journal(handle: Any) -> list[tuple[str, str]]:
    """The last messages of the systemd journal; those before them are passed over there, for they may be millions."""
    if not handle.is_dir("/var/log/journal"):
        return []
    handle.journal_open("/var/log/journal")
    lines: list[str] = []
    damage = ""
    try:
        handle.journal_skip(_ALL_MESSAGES)
    except RuntimeError as error:  # a machine that was cut off leaves a journal that may not read to its end
        damage = f"(the journal ends here: {error})"
    with contextlib.suppress(RuntimeError):
        handle.journal_skip(-_MESSAGES)
        while len(lines) <= _MESSAGES:
            lines.append(_message(handle))
            if not handle.journal_next():
                break
    handle.journal_close()
    return [("journal", "\n".join(filter(None, (*lines, damage))))]


def _message(handle: Any) -> str:
    fields = {item["attrname"]: item["attrval"] for item in handle.journal_get()}
    name, text = (
        value if isinstance(value, str) else bytes(value).decode(errors="replace")
        for value in (fields.get("SYSLOG_IDENTIFIER", "?"), fields.get("MESSAGE", ""))
    )
    return f"{name}: {text}"


def main(disk: str, format: str) -> None:
    """Write what is on a disk, or why it can't be told, pickled to standard output."""
    sandbox.settle()
    found: Inspection | UserError
    try:
        found = _inspect(Path(disk), format)
    except UserError as error:
        found = error
    except RuntimeError as error:  # of libguestfs, which knows no other
        found = UserError(f"{disk} cannot be looked into: {error}")
    print(b64encode(pickle.dumps(found)).decode())
