"""A checkout of its own for tests that change recipes and run clusters with the real commands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.checkout import own_folder
from pipeline.store import remove

TOP = Path(__file__).resolve().parents[2]

#: Seconds for the longest command: build all, boot, install and verify, on a busy machine.
LONGEST = 2400


@dataclass(frozen=True)
class Run:
    """A finished command and the events it told (`doit --json`)."""

    status: int
    output: str
    events: tuple[dict[str, Any], ...] = field(default=())

    def results(self) -> dict[str, str]:
        """What became of each task: built, reused, done, failed."""
        return {
            event["task"]: event.get("result", "failed")
            for event in self.events
            if event["event"] in ("finished", "failed")
        }

    @property
    def built(self) -> set[str]:
        return {task for task, result in self.results().items() if result == "built"}


@dataclass(frozen=True)
class Checkout:
    """A copy of the project; its artifacts may be shared with others."""

    folder: Path
    artifacts: Path
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def own(self) -> Path:
        """Where it keeps its running clusters, reports and links."""
        return own_folder(self.folder.resolve(), self.artifacts.resolve())

    def doit(self, *words: str, timeout: float = LONGEST) -> Run:
        """Run doit with these words and collect its events."""
        done = self.run([*self.command("--json", *words)], timeout=timeout)
        events = []
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                events.append(json.loads(line))
        return Run(done.returncode, done.stdout + done.stderr, tuple(events))

    def command(self, *words: str) -> list[str]:
        """A doit command line, in this checkout's own environment if it has one."""
        own = self.folder / ".venv/bin/python"
        return [str(own) if own.exists() else sys.executable, "-m", "doit", *words]

    def run(self, argv: Sequence[str | Path], *, timeout: float = LONGEST) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *argv],
            cwd=self.folder,
            timeout=timeout,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
            env=self.env(),
        )

    def env(self) -> dict[str, str]:
        return {**os.environ, "XEN_OSCAR_ARTIFACTS": str(self.artifacts), **self.environment}

    def remove(self) -> None:
        """Take away all but what it shares with others."""
        if self.own != self.artifacts:
            remove(self.own)
        remove(self.folder)

    def ssh(self, cluster: str, machine: str, command: str) -> str:
        """What a command says that a machine of a running cluster carries out well."""
        done = self.run(self.command("ssh", cluster, machine, "--", command))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def write_cluster(self, name: str, text: str) -> None:
        (self.folder / "recipes/clusters" / f"{name}.toml").write_text(text)


def of_fixture(folder: Path, artifacts: Path, name: str, make: Callable[[Path, Path], None], recipe: str) -> Checkout:
    """A copy that finds the packages of a distribution in a fixture, which `make` makes; `recipe` is added to that of
    the cluster of the same name."""
    mirror = folder / "mirror"
    mirror.mkdir()
    make(mirror, artifacts / "pool")
    copied = copy(folder / "project", artifacts)
    made = Checkout(copied.folder, copied.artifacts, (), {f"XEN_OSCAR_MIRROR_{name.upper()}": str(mirror)})
    made.write_cluster(name, (made.folder / f"recipes/clusters/{name}.toml").read_text() + recipe)
    updated = made.run(made.command("update", name))  # there may be an index of an older fixture in the store
    assert updated.returncode == 0, updated.stderr
    return made


def copy(target: Path, artifacts: Path) -> Checkout:
    """Copy what belongs to the project, uncommitted changes included, to `target`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        check=True,
        capture_output=True,
    ).stdout
    for name in listed.decode().split("\0"):
        if name and (TOP / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, target / name, follow_symlinks=False)
    return Checkout(target, artifacts)
