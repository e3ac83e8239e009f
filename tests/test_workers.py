"""Workers are forked from one process: it is there when it is wanted, young enough, and takes them with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import events, workers
from pipeline.engine import Engine
from pipeline.errors import BuildError
from pipeline.step import Plan, Step
from tests.namespaced import subordinate_user
from tests.processes import PATIENCE, command, descendants, must_end, until

TOP = Path(__file__).resolve().parents[1]


def build(artifacts: Path, function: str, **params: object) -> str:
    """Have a worker work; what it wrote."""
    step = Step("test", "x", "for a test", f"tests.makers:{function}", params=params)
    engine = Engine(Plan({step.task: step}), artifacts, TOP / "recipes")
    engine.build(step.task)
    return (engine.entry(step.task).path / "text").read_text()


def nurseries() -> set[int]:
    """The processes of this one that workers are forked from."""
    return {pid for pid in descendants(os.getpid()) if command(pid).endswith("-m pipeline.nursery") and parent(pid)}


def parent(pid: int) -> bool:
    """Whether it is a child of ours: what it has forked is called the same until it is told what to do."""
    return f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{pid}/status").read_text()


def test_one_process_forks_all_workers_until_their_source_is_younger(tmp_path: Path) -> None:
    source = TOP / "tests/makers.py"
    assert build(tmp_path, "write", text="1") == "1"
    first = nurseries()
    assert build(tmp_path, "write", text="2") == "2"
    assert nurseries() == first
    status = source.stat()
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))  # it has been changed now, whatever it says
    assert build(tmp_path, "write", text="3") == "3"
    (second,) = nurseries() - first
    assert build(tmp_path, "write", text="4") == "4"
    assert nurseries() - first == {second}


def test_it_may_be_there_before_it_is_wanted(tmp_path: Path) -> None:
    for nursery in nurseries():
        os.kill(nursery, signal.SIGKILL)
    until(lambda: not nurseries())
    workers.prepare()
    until(nurseries)
    there = nurseries()
    assert build(tmp_path, "write", text="1") == "1"
    assert nurseries() == there


def test_what_kills_that_process_ends_its_workers_and_the_next_build_has_another(tmp_path: Path) -> None:
    begun = threading.Event()
    unsubscribe = events.subscribe(lambda event: begun.set() if isinstance(event, events.Progress) else None)
    try:
        build(tmp_path, "write", text="1")
        before = nurseries()
        with ThreadPoolExecutor(1) as thread:
            slow = thread.submit(build, tmp_path, "slow")
            assert begun.wait(PATIENCE)
            workers = [worker for pid in before for worker in descendants(pid)]
            assert workers
            with must_end(workers):
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                with pytest.raises(BuildError, match="ended with status -9"):
                    slow.result(PATIENCE)
    finally:
        unsubscribe()
    assert build(tmp_path, "write", text="2") == "2"
    assert nurseries() and nurseries().isdisjoint(before)


def test_an_ordinary_users_worker_that_takes_proc_away_sees_nobody(tmp_path: Path) -> None:
    """They all are root in one namespace, and whoever sees another process there can look into it and change it."""
    user = subordinate_user()
    script = "import sys; from tests.test_workers import *; print(build(Path(sys.argv[1]), 'beneath'))"
    place = Path("/dev/shm") / f"xen-oscar-test-{os.getpid()}"
    place.mkdir()
    try:
        shutil.chown(place, user)
        done = subprocess.run(
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", sys.executable, "-c", script, place],
            cwd=TOP,
            env={"PATH": os.environ["PATH"], "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        subprocess.run(["rm", "-rf", str(place)], check=True)
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
