"""Packages that have one path: the same in both, for two architectures, or another thing, which ends the build."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.layers import stacking
from pipeline.packages import lock
from pipeline.packages.rpm import fetch, index, layer, resolve, root, under_test
from pipeline.sandbox import environment
from pipeline.step import Input, Job
from tests import rpmsuite
from tests.namespaced import inside, job
from tests.rpmsuite import DATABASE, Suite

BASE = ["filesystem", "setup", "busybox", "rpm"]
ASSEMBLERS = ("target-rpm", "host-rpm", "justdb")
#: By a name for the pair: what its two packages have, and the path that is in the way ("" = nothing is).
PAIRS: dict[str, tuple[dict[str, str], dict[str, str], str]] = {
    "content": ({"/usr/share/x": "one\n"}, {"/usr/share/x": "other\n"}, "/usr/share/x"),
    "many": (
        {f"/usr/share/many/{number}": "one" for number in range(99)},
        {f"/usr/share/many/{number}": "other" for number in range(99)},
        "/usr/share/many/0",
    ),
    "folder": ({"/usr/share/y": "a file"}, {"/usr/share/y/z": "in a folder"}, "/usr/share/y"),
    "letters": ({"/usr/share/é=ü": "one"}, {"/usr/share/é=ü": "other"}, "/usr/share/é=ü"),
    "same": ({"/usr/share/s": "the same"}, {"/usr/share/s": "the same"}, ""),
}


def tiny(suite: Suite) -> dict[str, object]:
    return {"distro": "tiny", "repositories": [{"name": "base", "path": "base"}], "architecture": "x86_64",
            "mirror": str(suite.root), "keys": [], "database": DATABASE}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with each pair of packages, fetched: on a base, and as a part of it."""
    place = tmp_path_factory.mktemp("conflicts")
    suite = rpmsuite.make(place / "suite")
    suite.base()
    for pair, (one, other, _) in PAIRS.items():
        for name, files in ((f"{pair}-one", one), (f"{pair}-other", other)):
            folders = sorted({str(Path(path).parent) for path in files} - {"/usr/share"})
            suite.rpm(name, files=files, listed=[f"%dir {path}" for path in folders])
    suite.publish()
    _locked(place, suite, "base", BASE)
    for pair in PAIRS:
        names = [f"{pair}-one", f"{pair}-other"]
        _locked(place, suite, pair, names, place / "base/lock/out")
        _locked(place, suite, f"base-{pair}", [*BASE, *names])
    inside(build, place, "base", "target-rpm")
    return place


def _locked(place: Path, suite: Suite, name: str, wanted: Sequence[str], base: Path | None = None) -> None:
    params = {**tiny(suite), "packages": dict.fromkeys(wanted, "a test")}
    found = job(place / name / "index", params)
    index.build(found)
    inputs = [Input("index", "", found.out, ""), *([Input("base", "", base, "")] if base else [])]
    made = job(place / name / "lock", params, *inputs)
    resolve.build(made)
    fetch.build(job(place / name / "fetch", params, Input("lock", "", made.out, ""), pool=place / "pool"))


def _told(builder: Callable[[Job], None], made: Job) -> None:
    """Inner side: run a builder, and tell what it refuses."""
    os.environ.update(environment())
    try:
        builder(made)
    except BuildError as error:
        print(f"told: {error.message}\n{error.tail}\nhint: {error.hint}")
    assert (made.out / stacking.LAYER).exists() is (made.out / "layer.list").exists()
    print("made" if (made.out / stacking.LAYER).exists() else "nothing made")


def build(folder: str, name: str, assembler: str) -> None:
    """Inner side: the packages of a lock as a base."""
    place = Path(folder)
    inputs = [Input(role, "", place / name / role / "out", "") for role in ("lock", "fetch")]
    params = {"database": DATABASE, "assembler": assembler, "architecture": "x86_64"}
    _told(root.build, job(place / name / assembler, params, *inputs))


def _base(place: Path) -> Input:
    base = place / "base/target-rpm/out"
    return Input("layer", "base", base, hashlib.sha256((base / stacking.LAYER).read_bytes()).hexdigest())


def stack(folder: str, name: str) -> None:
    """Inner side: the packages of a lock on top of the base."""
    place = Path(folder)
    inputs = [Input(role, "", place / name / role / "out", "") for role in ("lock", "fetch")]
    _told(layer.build, job(place / name / "layer", {"database": DATABASE}, _base(place), *inputs))


def give(folder: str, name: str) -> None:
    """Inner side: the packages of a lock as packages under test."""
    place = Path(folder)
    files = [str(place / name / "fetch/out/packages" / one.file)
             for one in lock.read(place / name / "lock/out" / lock.NAME)]  # fmt: skip
    params = {"database": DATABASE, "packages": files}
    _told(under_test.build, job(place / name / "given", params, _base(place)))


def require(said: str, pair: str) -> None:
    path = PAIRS[pair][2]
    if not path:
        assert said.splitlines()[-1] == "made", said
        return
    assert said.splitlines()[-1] == "nothing made", said
    (line,) = [line for line in said.splitlines() if line.startswith("told: ")]
    assert f"{pair}-one-1-1.noarch" in line and f"{pair}-other-1-1.noarch" in line and path in line, said
    assert "hint: ask for one of them alone" in said, said


@pytest.mark.parametrize(
    ("assembler", "pair"),
    [("target-rpm", "content"), ("target-rpm", "folder"), ("host-rpm", "same"), ("justdb", "content")],
)
def test_in_the_base(folder: Path, pair: str, assembler: str) -> None:
    require(inside(build, folder, f"base-{pair}", assembler), pair)


@pytest.mark.parametrize("pair", PAIRS)
def test_on_top_of_the_base(folder: Path, pair: str) -> None:
    require(inside(stack, folder, pair), pair)


@pytest.mark.parametrize("pair", ["content", "same"])
def test_under_test(folder: Path, pair: str) -> None:
    """Which go over older and newer versions of themselves, and over no other package."""
    require(inside(give, folder, pair), pair)
