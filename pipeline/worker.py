"""The process that runs one builder, inside namespaces: `python -m pipeline.worker JOB`.

It is started by `engine.py` with `sandbox.namespace()` in front, so it is (mapped) root, has no network unless the
step may use it, and whatever it mounts vanishes with it.  Standard output carries one JSON object a line to the
parent: progress, notes, and at the end `finished` or `error`.  Standard error goes to the step's log.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
import traceback
from base64 import b64encode
from pathlib import Path
from typing import Any

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.run import permit_only
from pipeline.step import Builder, Job
from pipeline.store import remove


def _say(**message: Any) -> None:
    print(json.dumps(message), flush=True)


def _job(path: Path) -> Job:
    raw = pickle.loads(path.read_bytes())  # written by our own parent, in a folder of its own
    return Job(**raw, progress=lambda done, total, unit: _say(done=done, total=total, unit=unit),
               note=lambda text: _say(note=text))


def main(path: Path) -> int:
    """Run the builder that the job file names; 0 when it filled its output folder."""
    job = _job(path)
    kept = sandbox.network_environment() if job.step.network else {}
    os.environ.clear()
    os.environ.update(sandbox.environment(kept))
    try:
        os.umask(sandbox.UMASK)
        sandbox.settle()
        in_memory = sandbox.scratch(job.work)
        os.environ.update(HOME=str(job.work), TMPDIR=str(job.work))
        module, _, function = job.step.builder.partition(":")
        builder: Builder = getattr(importlib.import_module(module), function)
        permit_only(job.step.tools)
        builder(job)
        if not in_memory:
            remove(job.work)
    except UserError as error:
        _say(error=b64encode(pickle.dumps(error)).decode())
        return 1
    except OSError as error:
        if error.errno not in (28, 12):  # ENOSPC, ENOMEM: the machine's fault, not ours
            raise
        traceback.print_exc()
        _say(error=b64encode(pickle.dumps(UserError(
            f"{job.step.task}: {error.strerror} at {error.filename or job.work}",
            hint="free disk space or memory (`doit gc` removes artifacts that no cluster uses), and run again",
            log=job.log))).decode())
        return 1
    _say(finished=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
