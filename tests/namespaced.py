"""Run a part of a test where builders run: as (mapped) root in namespaces of its own.

`python -m tests.namespaced MODULE:FUNCTION WORD...` is the inner side of `inside()`.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import sandbox
from pipeline.run import which
from pipeline.step import Input, Job, Step

_ROOT = Path(__file__).resolve().parents[1]


def inside(function: Any, *words: object, status: int = 0, prefix: Sequence[str] = ()) -> str:
    """Run a module's function with these words (as text) inside; its output.  It must end with `status`.

    It may write where a word leads to, and beside that.  A `prefix` that changes the user gets a user namespace, as
    that user would; root is root there, as on machines that give it no other choice, for what tests have made is
    root's.
    """
    who = sandbox.Identity(1 if prefix else os.geteuid())
    beside = Path(function.__code__.co_filename).parent
    layers = Path(f"/dev/shm/xen-oscar-{os.geteuid()}")
    layers.mkdir(mode=0o700, exist_ok=True)
    view = sandbox.View((_ROOT, beside), writes=(*_places(words), layers), folders=("/boot",), machines=True)
    argv = [
        *prefix,
        *sandbox.namespace(network=False, view=view, who=who),
        sys.executable,
        "-m",
        "tests.namespaced",
        f"{function.__module__}:{function.__qualname__}",
        *map(str, words),
    ]
    done = subprocess.run(
        argv,
        cwd=_ROOT,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{_ROOT}:{beside}", "LC_ALL": "C.UTF-8"},
    )
    if "unshare failed" in done.stdout:
        pytest.skip(f"no namespaces here: {done.stdout.strip()}")
    assert done.returncode == status, done.stdout
    return done.stdout


def _places(words: Iterable[object]) -> Iterator[Path]:
    """Folders of tests (/tmp/pytest-of-USER/pytest-N/TEST) in which these lie, and what lies elsewhere."""
    for word in words:
        path = Path(str(word))
        if path.is_absolute():
            own = [folder for folder in (path, *path.parents) if folder.parent.name.startswith("pytest-")]
            yield own[-1] if own else path


def subordinate_user() -> str:
    """An account that root here can become, with ranges of subordinate ids; the test is skipped where there is none."""
    file = Path("/etc/subuid")
    lines = file.read_text().split() if file.exists() else []
    user = next((line.partition(":")[0] for line in lines if not line.startswith("root:")), "")
    if os.geteuid() != 0 or not user or which("newuidmap") is None:
        pytest.skip("needs root, and an account with ranges in /etc/subuid")
    return user


def smallest_root(root: Path) -> None:
    """Make the smallest root file system: a static busybox, which bootstrap installs."""
    busybox = which("busybox")
    assert busybox is not None, "busybox-static is missing"
    for name in ("bin", "dev", "proc", "run", "tmp", "etc"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")


def job(
    folder: Path,
    params: dict[str, Any] | None = None,
    *inputs: Input,
    pool: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, unit: None,
) -> Job:
    """A job whose places are all below `folder`, but for a pool that several jobs share."""
    places = {name: folder / name for name in ("out", "work", "recipes", "pool")}
    places["pool"] = pool or places["pool"]
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    step = Step(kind="test", name="test", doc="", maker="", params=params or {})
    return Job(step=step, inputs=inputs, log=folder / "log", progress=progress, note=print, **places)


if __name__ == "__main__":
    sandbox.settle()
    module, _, name = sys.argv[1].partition(":")
    getattr(importlib.import_module(module), name)(*sys.argv[2:])
