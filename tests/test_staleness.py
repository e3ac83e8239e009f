"""No stale verdict: all that outputs could depend on is changed, one thing at a time, and either keys change or the
output is shown to be the same.

Planning goes through the remembered plan, as every run's does.  Outputs of other steps are taken to be the same all the
time, so that each change is seen where it comes in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import keys as key_module
from pipeline import sandbox
from pipeline.kept import Kept
from pipeline.keys import Keys
from pipeline.opkgs import install
from pipeline.planned import load_plan
from pipeline.rootfs import RootFs
from pipeline.run import Completed
from pipeline.step import Plan, Step
from pipeline.store import Entry, Store
from tests import debpackages

TOP = Path(__file__).resolve().parents[1]
RECIPES = TOP / "recipes"

#: A cluster with all that keys can depend on: an OPKG with files of many kinds, and packages under test behind a link.
CLUSTER = 'extends = "debian12"\nopkgs = ["changing"]\n[packages]\nhead = ["../../build/tool.deb"]\n'
CONFIG = """<oscar><name>changing</name><class>third-party</class><summary>is changed</summary>
<changelog><versionEntry version="1.0-1"/></changelog></oscar>
"""


CONTENT = {
    "config.xml": CONFIG,
    "files/common/etc/app.conf": "one\n",
    "files/server/usr/bin/app": "#!\n",
    "data/table": "1\n",
    "scripts/server-post-install": "#!/bin/sh\n. ./lib/common\n",
    "scripts/lib/common": "true\n",
    "scripts/client-post-install": "#!/bin/sh\n",
    "testing/test_user": "#!/bin/sh\n",
}


class FixedOutputs(Keys):
    """Keys whose steps have all been built, always with the same output."""

    def entry(self, task: str) -> Entry | None:
        digest = hashlib.sha256(task.encode()).hexdigest()
        return Entry(digest, Path("/nowhere"), {"digest": digest, "files": [{"path": "lock.json", "digest": digest}]})


class World:
    """Recipes, packages under test and a remembered plan, all in one folder; keys are asked as a run does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes = folder / "recipes"
        shutil.copytree(RECIPES, self.recipes, symlinks=True)
        self.opkg = self.recipes / "opkgs/changing"
        for path, text in CONTENT.items():
            (self.opkg / path).parent.mkdir(parents=True, exist_ok=True)
            (self.opkg / path).write_text(text)
            (self.opkg / path).chmod(0o755 if "scripts/" in path or "testing" in path or "/bin/" in path else 0o644)
        (self.opkg / "files/common/etc/link").symlink_to("app.conf")
        (self.opkg / "files/common/var/spool/app").mkdir(parents=True)
        package = debpackages.make(folder / "build", "tool")
        package.with_name("tool.deb").symlink_to(package.name)
        (self.recipes / "clusters/mine.toml").write_text(CLUSTER)
        self.log = folder / "log"

    def plan(self) -> Plan:
        """The plan of the next run, once the clock that stamps files has moved on."""
        now = time.time_ns()
        while time.clock_gettime_ns(5) < now + 20_000_000:  # CLOCK_REALTIME_COARSE
            time.sleep(0.001)
        return load_plan(self.recipes, self.folder, self.folder)

    def keys(self) -> dict[str, str]:
        """The key of every step of the cluster, by task."""
        plan = self.plan()
        made = FixedOutputs(plan.artifacts, Store(self.folder))
        found = {task: made.key(one) or "" for task, one in plan.artifacts.items() if "mine" in one.name.split("/")}
        made.save()
        return found

    def outputs(self) -> Mapping[str, Mapping[str, str]]:
        """What the OPKG brings to each side, by the builder's own code; scripts are not run."""
        plan, found = self.plan(), {}
        for side in ("head", "compute"):
            root = self.folder / f"root-{side}"
            shutil.rmtree(root, ignore_errors=True)
            (root / "bin").mkdir(parents=True)
            (root / "bin/sh").write_text("shell")
            (root / "bin/sh").chmod(0o755)
            files = {path: Kept.parse(text) for path, text in plan.steps[f"opkgs:mine/{side}"].files}
            with RootFs(root) as inside:
                if side == "head":
                    install.bring(inside, "changing", self.recipes, files)
                install.furnish(inside, "changing", self.recipes, files, side, self.log)
            found[side] = {str(path.relative_to(root)): _described(path) for path in sorted(root.rglob("*"))}
        return found


def _described(path: Path) -> str:
    status = path.lstat()
    content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
    return f"{stat.filemode(status.st_mode)} {content}"


@pytest.fixture(autouse=True)
def no_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    def ran(root: Path, argv: Sequence[str], **_: Any) -> Completed:
        return Completed(tuple(argv), 0, "", "")

    monkeypatch.setattr(install, "chroot_run", ran)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- OPKGs and recipes


def _same_size_and_time(path: Path) -> None:
    status, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + (b" " if data[-1:] != b" " else b"\n"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replaced(path: Path) -> None:
    """By a file made elsewhere and moved there, as editors do."""
    made = path.with_name(".made")
    made.write_bytes(path.read_bytes() + b"# more\n")
    made.chmod(path.stat().st_mode)
    made.rename(path)


def _elsewhere(path: Path) -> None:
    """The file becomes a link to one in another folder of the recipes, with other content."""
    real = path.parents[len(path.parts) - path.parts.index("recipes") - 2] / f"shared-{path.name}"
    real.write_bytes(path.read_bytes() + b"# from elsewhere\n")
    real.chmod(path.stat().st_mode)
    path.unlink()
    path.symlink_to(real)


CHANGES: Mapping[str, Callable[[Path], object]] = {
    "other content": lambda path: path.write_bytes(path.read_bytes() + b"# more\n"),
    "other content, same size and time": _same_size_and_time,
    "another file of its name": _replaced,
    "private": lambda path: path.chmod(0o600),
    "a program": lambda path: path.chmod(0o755),
    "no program": lambda path: path.chmod(0o644),
    "writable by the group, as another umask has it": lambda path: path.chmod(path.stat().st_mode | 0o020),
    "setuid": lambda path: path.chmod(0o4755),
    "another time": lambda path: os.utime(path, (1, 1)),
    "removed": lambda path: path.unlink(),
    "one beside it": lambda path: path.with_name("new").write_text("new\n"),
    "an empty folder beside it": lambda path: path.with_name("newfolder").mkdir(),
    "a link to elsewhere": _elsewhere,
}
FILES = (
    "files/common/etc/app.conf",
    "files/server/usr/bin/app",
    "scripts/server-post-install",
    "scripts/lib/common",
    "scripts/client-post-install",
    "testing/test_user",
    "data/table",
)


@pytest.mark.slow
@settings(max_examples=200 if os.environ.get("XEN_OSCAR_LONG_TESTS") else 25)
@given(change=st.sampled_from(sorted(CHANGES)), path=st.sampled_from(FILES))
def test_a_change_of_an_opkg_changes_keys_or_no_output(
    tmp_path_factory: pytest.TempPathFactory, change: str, path: str
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    before, made = world.keys(), world.outputs()
    CHANGES[change](world.opkg / path)
    after = world.keys()
    if "mine" not in world.plan().clusters:
        return  # told as a mistake: nothing is built
    for side in ("head", "compute"):
        if after[f"opkgs:mine/{side}"] == before[f"opkgs:mine/{side}"]:
            assert world.outputs()[side] == made[side], f"{change} of {path} reaches the {side} side, with the same key"


def _other_link(world: World) -> None:
    link = world.opkg / "files/common/etc/link"
    link.unlink()
    link.symlink_to("other")


def _other_package(world: World) -> None:
    link = world.folder / "build/tool.deb"
    link.unlink()
    link.symlink_to(debpackages.make(link.parent, "tool", "1.1").name)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_other_link, {"opkgs:mine/head", "opkgs:mine/compute"}),
        (_other_package, {"localpackages:mine/head"}),
        (
            lambda world: debpackages.make(world.folder / "build", "tool", files={"/etc/x": "y"}),
            {"localpackages:mine/head"},
        ),
        (
            lambda world: (world.recipes / "clusters/mine.toml").write_text(CLUSTER + '[head]\nmemory = "600M"\n'),
            {"definition:mine/head"},
        ),
    ],
    ids=["a link of a root to be", "another package behind a link", "a package built again", "a machine's memory"],
)
def test_what_changes_is_seen_where_it_comes_in(
    world: World, change: Callable[[World], object], expected: set[str]
) -> None:
    before = world.keys()
    change(world)
    after = world.keys()
    assert expected <= {task for task in after if after[task] != before.get(task)}


# --- builders and tools


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of this project's own code, which keys are made from instead."""
    copied = tmp_path / "pipeline"
    shutil.copytree(TOP / "pipeline", copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(key_module, "_PACKAGE", copied)
    return copied


NETBOOT = Step(
    "netboot", "amd64", "", "pipeline.builders.netboot:build", ships=("installer",), tools=("python:zstandard",)
)


def key(folder: Path, step: Step) -> str:
    made = Keys({step.task: step}, Store(folder))
    now = time.time_ns()
    while time.clock_gettime_ns(5) < now + 20_000_000:
        time.sleep(0.001)
    found = made.key(step)
    made.save()
    assert found
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda package: (package / "installer/init").write_text("changed"),
        lambda package: _same_size_and_time(package / "installer/init"),
        lambda package: (package / "installer/more").write_text("a file that was not there"),
        lambda package: (package / "installer/steps.d").mkdir() or (package / "installer/steps.d/10").write_text("one"),
        lambda package: (package / "installer/dhcp").unlink(),
        lambda package: (package / "cpio.py").write_text("changed = 1\n"),
        lambda package: _same_size_and_time(package / "guests/kernel.py"),
    ],
    ids=["content", "same size and time", "added", "added in a new folder", "removed", "module", "module, same time"],
)
def test_a_change_of_what_a_builder_is_made_of_changes_its_key(
    package: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    before = key(tmp_path, NETBOOT)
    assert key(tmp_path, NETBOOT) == before
    change(package)
    assert key(tmp_path, NETBOOT) != before


def test_another_version_of_a_program_changes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin/tar"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho tar 1.1\n")
    program.chmod(0o755)
    monkeypatch.setattr(sandbox, "PATH", f"{program.parent}:{sandbox.PATH}")
    step = Step("layer", "x", "", "pipeline.step:Job", tools=("tar",))
    before, status = key(tmp_path, step), program.stat()
    program.write_text("#!/bin/sh\necho tar 1.2\n")
    os.utime(program, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert key(tmp_path, step) != before


def test_another_version_of_a_package_of_python_changes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in another checkout, whose packages lie elsewhere, with the same artifacts."""
    before = key(tmp_path, NETBOOT)
    folder = tmp_path / "other/site-packages"
    metadata = folder / "zstandard-9.9.9.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: zstandard\nVersion: 9.9.9\n")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert key(tmp_path, NETBOOT) != before


@pytest.mark.parametrize("name", ["environment", "umask", "python"])
def test_what_surrounds_a_builder_is_in_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = key(tmp_path, NETBOOT)
    other = {**sandbox.surroundings(), name: "other"}
    monkeypatch.setattr(sandbox, "surroundings", lambda: other)
    assert key(tmp_path, NETBOOT) != before
