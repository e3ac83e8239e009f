"""The process that runs one builder, inside namespaces.

It is forked (`nursery`) and put into namespaces (`launch`) for `building.py`, so it is (mapped) root, has no network
unless the step may use it, and whatever it mounts vanishes with it.  Standard input is the job, standard output carries
one JSON object a line to whoever wants it built: progress, notes, and at the end `finished` or `error`.  Standard error
goes to the step's log.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pickle
import sys
import traceback
from base64 import b64encode
from pathlib import Path
from typing import Any

from pipeline import filesystems, sandbox, trouble
from pipeline.run import permit_only
from pipeline.step import Builder, Job
from pipeline.store import remove


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def _job() -> Job:
    raw = pickle.load(sys.stdin.buffer)  # from our own parent
    return Job(
        **raw,
        progress=lambda done, total, unit: _say(done=done, total=total, unit=unit),
        note=lambda text: _say(note=text),
    )


def main(memory: int) -> int:
    """Run the builder that the job names, with that much memory for scratch space; 0 when it filled its output."""
    job = _job()
    kept = sandbox.network_environment() if job.step.network else {}
    os.environ.clear()
    os.environ.update(sandbox.environment(kept))
    try:
        os.umask(sandbox.UMASK)
        sandbox.settle()
        in_memory = sandbox.scratch(job.work, memory)
        os.environ.update(HOME=str(job.work), TMPDIR=str(job.work))
        module, _, function = job.step.maker.partition(":")
        builder: Builder = getattr(importlib.import_module(module), function)
        permit_only(job.step.tools)
        for item in job.inputs:
            if item.role == "machine":
                sandbox.use_machine(item.path)
        if in_memory:
            in_memory = _fits(builder, job)
        if not in_memory:
            builder(job)
            _empty(job.work)
    except Exception as error:
        told = trouble.explain(error, (job.work, job.out, Path("/dev/shm")))
        if told is None:
            raise
        if told is not error:
            _log_where_it_happened()
            told.message, told.log = f"{job.step.task}: {told.message}", job.log
        _say(error=b64encode(pickle.dumps(told)).decode())
        return 1
    _say(finished=True)
    return 0


def _fits(builder: Builder, job: Job) -> bool:
    """Run a builder whose scratch space is memory; false if that is too small: it is on disk then, and all is empty."""
    try:
        builder(job)
        return True
    except Exception as error:
        if not trouble.is_short_of_room(error) or filesystems.of(job.out).is_nearly_full:
            raise
        _log_where_it_happened()
        _say(note=f"{job.step.task}: too large for the memory that is free; it is built once more, on disk")
    sandbox.unmount(job.work)
    _empty(job.work)
    _empty(job.out)
    return False


def _log_where_it_happened() -> None:
    """In the log, which may lie on the very disk that is full: nothing of it waits in a buffer, and it may be lost."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), traceback.format_exc().encode(errors="replace"))


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        remove(path)
