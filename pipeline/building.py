"""One builder runs: in a worker process (`worker`), inside namespaces in which it sees its inputs and little else."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import pkgutil
import threading
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pipeline import events, sandbox, workers
from pipeline.errors import BuildError, UserError
from pipeline.locks import locked
from pipeline.step import Input, Spoiled, Step
from pipeline.store import remove

_TOP = Path(__file__).resolve().parents[1]

#: Seconds after which a builder is ended; the longest measured takes under a minute, a slow mirror some more.
DEADLINE = 3600


@dataclass(frozen=True)
class Build:
    """What a builder is given: its step, what that is made from, what a step that takes over made last (or None); and
    the folder in which `files` and `work` are made for it; `changed` is when its source was changed last."""

    step: Step
    inputs: tuple[Input, ...]
    former: Path | None
    folder: Path
    artifacts: Path
    recipes: Path
    log: Path
    changed: int

    @property
    def pool(self) -> Path:
        return self.artifacts / "pool"


def run(build: Build, memory: int) -> None:
    """Run it, or raise UserError with its log; its output is then in `folder/files`.

    `memory` is a descriptor of what its sandbox shares with others, see `sandbox.Memory`.
    """
    build.log.parent.mkdir(parents=True, exist_ok=True)
    build.pool.mkdir(parents=True, exist_ok=True)
    try:
        _attempt(build, memory)
    except Spoiled as error:
        events.note(f"{build.step.task}: {error.message}; it is built once more")
        for place in ("files", "work"):
            remove(build.folder / place)
        _attempt(build, memory)


def _attempt(build: Build, memory: int) -> None:
    for place in ("files", "work"):
        (build.folder / place).mkdir()
        sandbox.give(build.folder / place)
    with contextlib.ExitStack() as stack:
        if build.step.network:  # what it puts into the pool is not shown by an entry yet
            stack.enter_context(locked(build.pool / ".lock", shared=True))
        errors = stack.enter_context(build.log.open("wb"))
        _worker(build, memory, errors)


def _job(build: Build) -> bytes:
    """As `worker` reads it."""
    return pickle.dumps(
        {
            "step": build.step,
            "inputs": build.inputs,
            "out": build.folder / "files",
            "work": build.folder / "work",
            "recipes": build.recipes,
            "pool": build.pool,
            "log": build.log,
            "former": build.former,
        }
    )


def _view(build: Build) -> sandbox.View:
    """What a builder sees: its inputs and recipes, and where it writes."""
    from pipeline.layers import cache  # only where something is built

    step = build.step
    reads = [
        _TOP / step.maker.partition(".")[0],
        build.recipes,
        *_ways_out(build.recipes, (name for name, _ in step.files)),
    ]
    writes = [build.folder / "files", build.folder / "work", build.log, *cache.folders(build.artifacts)]
    if step.network:  # hard links from the pool need one mount of both
        reads.extend(_read_by_downloads(step))
        writes.append(build.artifacts)
    for path in (*writes, build.pool):
        if path != build.artifacts:
            sandbox.give(path)
    made = [*(item.path for item in build.inputs), *([build.former] if build.former else [])]
    return sandbox.View(tuple(reads), tuple(made), tuple(writes))


def _worker(build: Build, memory: int, errors: IO[bytes]) -> None:
    """Run the worker, and tell what it tells."""
    step, log = build.step, build.log
    order = {
        "memory": memory,
        "environment": sandbox.network_environment() if step.network else {},
        "plan": sandbox.launch_plan(_view(build), sandbox.identity().base, network=step.network, lasting=False),
    }
    finished = False
    failure: UserError | None = None
    with workers.started(step.maker.partition(":")[0], build.changed, order, _job(build), log=errors) as worker:
        late = threading.Event()

        def end() -> None:
            late.set()
            worker.kill()

        timer = threading.Timer(DEADLINE, end)
        timer.start()
        try:
            for line in worker.said:
                message = json.loads(line)
                if "error" in message:
                    failure = pickle.loads(b64decode(message["error"]))
                elif "done" in message:
                    events.progress(step.task, message["done"], message["total"], message["unit"])
                elif "note" in message:
                    events.note(message["note"])
                else:
                    finished = True
            status = worker.wait()
        finally:
            timer.cancel()
    if failure is not None:
        if failure.log is None:
            failure.log = log
        raise failure
    if not finished or status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        how = f"no result after {DEADLINE} s" if late.is_set() else f"status {status}"
        raise BuildError(f"{step.task}: its builder ended with {how}", log=log, tail=tail)


def _ways_out(recipes: Path, names: Iterable[str]) -> set[Path]:
    """The links through which these files are read, and files elsewhere; where they lead to is to be seen as well.

    A link of a root to be leads to nothing here.
    """
    from pipeline import kept

    found, passed = set(), set()
    for name in names:
        path = recipes / name
        if not path.is_relative_to(recipes):
            found.add(path)
            continue
        on_the_way = [*(recipes / part for part in Path(name).parents), *([] if kept.in_root(name) else [path])]
        for place in on_the_way:
            if place not in passed and place.is_symlink():
                found.add(place)
            passed.add(place)
    return found


def _read_by_downloads(step: Step) -> Iterator[Path]:
    """What a step that fetches reads of this machine: mirrors that are folders, and whom it trusts."""
    import urllib.parse
    import urllib.request  # which takes longer than all else where nothing is to be fetched

    if "SSL_CERT_FILE" in os.environ:
        yield Path(os.environ["SSL_CERT_FILE"]).absolute()
    with contextlib.suppress(UserError):  # that none is known is the builder's to tell
        for url in pkgutil.resolve_name(step.mirrors)(step.params) if step.mirrors else ():
            if url.startswith("file:"):
                yield Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path))
