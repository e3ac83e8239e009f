"""Builders for the tests of the engine: they run in real workers, inside real namespaces."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from pathlib import Path

from pipeline import filesystems, sandbox
from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.run import run
from pipeline.step import Job


def write(job: Job) -> None:
    """Write params.text."""
    (job.out / "text").write_text(job.params["text"])


def remark(job: Job) -> None:
    """Write params.text, and say something about it."""
    job.note(f"{job.step.task}: look twice")
    write(job)


def follow(job: Job) -> None:
    """Write params.text, and say what the task made before."""
    job.note(f"before: {(job.former / 'text').read_text() if job.former else 'nothing'}")
    write(job)


def join(job: Job) -> None:
    """Write what all inputs hold."""
    (job.out / "text").write_text("".join(item.file("text").read_text() for item in job.inputs))


def surroundings(job: Job) -> None:
    """Write down what a builder sees of the machine."""
    (job.out / "environment").write_text(
        "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if name not in ("HOME", "TMPDIR"))
    )
    (job.out / "interfaces").write_text("\n".join(name for _, name in socket.if_nameindex()))
    (job.out / "user").write_text(str(os.getuid()))


def tries(job: Job) -> None:
    """Write down what can be done with each of params.paths."""
    found = {}
    for name in job.params["paths"]:
        path = Path(name)
        able = os.access(path, os.W_OK, effective_ids=True)
        found[name] = "written" if able else "read" if path.exists() else "nothing"
    (job.out / "text").write_text(json.dumps(found))


def beneath(job: Job) -> None:
    """Write down which processes are seen by who takes /proc away."""
    with contextlib.suppress(OSError):
        sandbox.unmount("/proc")
    (job.out / "text").write_text(" ".join(path.name for path in Path("/proc").iterdir() if path.name.isdigit()))


def differs(job: Job) -> None:
    """Write something else every time."""
    (job.out / "text").write_text(str(time.time_ns()))


def fail(job: Job) -> None:
    """Fail half-way, as a user should see it."""
    (job.out / "half").write_text("half")
    raise BuildError("the wheels came off", hint="put them on again")


def crash(job: Job) -> None:
    """Fail as a bug does."""
    raise ZeroDivisionError


def slow(job: Job) -> None:
    """Say so, then never end."""
    if "sign" in job.params:
        Path(job.params["sign"]).write_text(str(os.getpid()))
    (job.out / "begun").touch()
    job.progress(1, 2, "steps")
    time.sleep(3600)


def fill(job: Job) -> None:
    """Need 8 MiB of scratch space, by hand or for a tool that cleans up after itself; tell where they were."""
    (job.out / "begun").touch()
    if job.params["tool"]:
        run(["sh", "-c", 'head -c 8M /dev/zero > "$1" || { rm "$1"; exit 1; }', "sh", job.work / "much"])
    else:
        (job.work / "much").write_bytes(bytes(8 << 20))
    (job.out / "text").write_text(filesystems.of(job.work).type)
    (job.out / "begun").unlink()


def full(job: Job) -> None:
    """Run into a full file system, which lies in the scratch space."""
    place = job.work / "small"
    place.mkdir()
    sandbox.mount("tmpfs", place, "tmpfs", options="size=64k,nr_inodes=1")
    (place / "more").touch()


def full_with_its_log(job: Job) -> None:
    """Run into a full file system, and the log lies there as well."""
    place = job.work / "small"
    place.mkdir()
    sandbox.mount("tmpfs", place, "tmpfs", options="size=64k")
    os.dup2(os.open(place / "log", os.O_WRONLY | os.O_CREAT), sys.stderr.fileno())
    (place / "more").write_bytes(bytes(128 << 10))


def pass_on(job: Job) -> None:
    """Hand a file of the input on."""
    job.pass_on("input0", "text")
    (job.out / "own").write_text("own")


def killed(job: Job) -> None:
    """End as one does whom the kernel takes the memory from."""
    run(["sh", "-c", "kill -9 $$"])


def layer(job: Job) -> None:
    """A layer with one file, params.text."""
    with stacking.changed(job) as root:
        (root / "text").write_text(job.params["text"])


def below(job: Job) -> None:
    """Write what the file of such a layer holds."""
    with stacking.stacked(job, [job.input("input0")]) as root:
        (job.out / "text").write_text((root / "text").read_text())


def forbidden(job: Job) -> None:
    """Do what nobody may."""
    Path("/proc/self/stat").chmod(0o600)
