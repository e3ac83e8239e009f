"""A copy of this checkout to change and to break, with an artifacts folder of its own.

Recipes and code are copied as they lie in the working tree.  The copy's store starts with hard links to the entries of
the real one, which are never written to again: it is as warm as the real one, costs nothing, and what a benchmark
adds goes away with it.  The copy has one cluster more, `bench`: what is measured and booted has its name.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ARTIFACTS, DOIT, TOP, processor_used, say, timed
from pipeline import sandbox
from pipeline.engine import Engine
from pipeline.errors import CommandError
from pipeline.run import run, spawn
from pipeline.step import Plan
from pipeline.store import Entry, Store, remove

CLUSTER = "bench"
#: The Xen host of clusters that a benchmark puts there.
TESTBED = "testbed-debian12"
#: Everything that depends on the OPKGs and packages of the cluster.
OUTPUTS = (f"headnode:{CLUSTER}", f"disk:{CLUSTER}/head", f"image:{CLUSTER}")
#: Everything that its machines are made of.
MACHINES = (
    f"image:{CLUSTER}",
    f"definition:{CLUSTER}/*",
    *(f"disk:{CLUSTER}/{name}" for name in ("head", "node1", "node2")),
)
#: What to find out again would measure something else: how this host's QEMU behaves.
_HOST_FACTS = ("accelerator.json", "libvirt")

Event = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of doit, as it told it itself."""

    seconds: float
    events: tuple[Event, ...]
    processor: float = 0.0
    """Seconds of processors that it and all that it started took."""

    @property
    def built(self) -> dict[str, float]:
        """The tasks that ran, in the order in which they ended, and their seconds."""
        return {
            event["task"]: float(event["seconds"])
            for event in self.events
            if event["event"] == "finished" and event["result"] in ("built", "done")
        }

    @property
    def reasons(self) -> dict[str, str]:
        """Why tasks ran: what was told last about each."""
        return {event["task"]: str(event["text"]) for event in self.events if event["event"] == "reason"}

    def detail(self) -> str:
        return ", ".join(f"{task.replace(f':{CLUSTER}', '')} {seconds:.1f}" for task, seconds in self.built.items())


@dataclass(frozen=True)
class Checkout:
    """A checkout and the artifacts folder that it works with."""

    top: Path
    artifacts: Path

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.top), "XEN_OSCAR_ARTIFACTS": str(self.artifacts)}

    def doit(self, *words: str, hear: Callable[[Event], None] | None = None) -> Run:
        """Run doit to its end; it must succeed.  `hear` gets each event as it comes."""
        events: list[Event] = []
        log = self.artifacts / "doit.log"
        started, before = time.monotonic(), processor_used()
        with (
            log.open("wb") as errors,
            spawn(
                [DOIT, "--json", *words], env=self.env, cwd=self.top, stdout=subprocess.PIPE, stderr=errors
            ) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                with contextlib.suppress(ValueError):  # anything else that is printed
                    events.append(json.loads(line))
                    if hear:
                        hear(events[-1])
            status = process.wait()
        seconds = time.monotonic() - started
        if status != 0:
            tail = [
                f"{item.get('task', '')}: {item['message']}\n{item['tail']}"
                for item in events
                if item["event"] in ("failed", "error")
            ]
            raise CommandError(
                f"doit {' '.join(words)} ended with status {status}",
                tail="\n".join(tail) or log.read_text(errors="replace")[-2000:],
            )
        return Run(seconds, tuple(events), processor_used() - before)


@contextlib.contextmanager
def copy(manifest: str = "", *, kinds: Collection[str] = (), place: Path | None = None) -> Iterator[Checkout]:
    """A copy whose cluster is like debian12 but for `manifest`; `kinds`: only these of the store's entries.

    `place` is an empty folder for it, beside the real artifacts without one.
    """
    with contextlib.nullcontext(place) if place else folder() as work:
        made = Checkout(work / "checkout", work / "checkout" / "artifacts")
        _copy_tree(made.top)
        (made.top / "recipes" / "clusters" / f"{CLUSTER}.toml").write_text(f'extends = "debian12"\n{manifest}')
        _link_store(made.artifacts, kinds)
        try:
            yield made
        finally:
            for name in (CLUSTER, TESTBED):
                if (made.artifacts / "run" / name / "init.pid").exists():
                    run([DOIT, f"stop:{name}"], env=made.env, cwd=made.top, check=False)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder where files of the store can be linked to."""
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=ARTIFACTS))
    try:
        yield work
    finally:
        remove(work)


def forget_layers() -> None:
    """Take all layers that are extracted in memory and not in use: they are found by content, whoever made them."""
    Engine(Plan(), ARTIFACTS, TOP / "recipes").clear_layers()


def _copy_tree(target: Path) -> None:
    names = timed(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"])[1].stdout
    for name in filter(None, names.split("\0")):
        if (TOP / name).exists():  # not one that is being removed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name, follow_symlinks=False)


def _link_store(artifacts: Path, kinds: Collection[str]) -> None:
    """Hard links to the newest entry of each task and to the pool of packages, or copies on another file system."""
    pool = artifacts / "pool"
    pool.mkdir(parents=True)
    bring = os.link if ARTIFACTS.stat().st_dev == artifacts.stat().st_dev else shutil.copy2
    for file in (ARTIFACTS / "pool").glob("*.deb"):
        bring(file, pool / file.name)
    newest = {entry.manifest.get("task"): entry for entry in sorted(Store(ARTIFACTS).entries(), key=_started)}
    for entry in newest.values():
        if not kinds or entry.manifest.get("kind") in kinds:
            shutil.copytree(entry.folder, artifacts / "store" / entry.key, copy_function=bring, symlinks=True)
    (artifacts / "cache").mkdir()
    for pattern in _HOST_FACTS:
        for found in (ARTIFACTS / "cache").glob(pattern):
            if found.is_dir():
                copied = shutil.copytree(found, artifacts / "cache" / found.name)
                for path in (copied, *copied.rglob("*")):
                    sandbox.give(path)
            else:
                shutil.copy2(found, artifacts / "cache")
    say(f"copied the checkout, {len(list((artifacts / 'store').glob('*')))} store entries linked")


def _started(entry: Entry) -> str:
    return str(entry.manifest.get("started", ""))
