"""The version that is asked for is found in whichever suite has it, with what it needs; else it is told why not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.packages.deb.index import build as build_index
from pipeline.packages.deb.resolve import build as build_lock
from pipeline.packages.lock import read as read_lock
from pipeline.step import Input
from tests.debmirror import Archive
from tests.namespaced import job

SUITES = ("tiny", "tiny-updates", "tiny-backports")
BACKPORTS = "NotAutomatic: yes\nButAutomaticUpgrades: yes\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Input]:
    """The index of an archive with three suites, the last of which is taken only where it is meant."""
    folder = tmp_path_factory.mktemp("wide")
    archive = Archive(folder / "mirror", folder / "gnupg")
    archive.add("apt", at="tiny")
    archive.add("any", at="tiny", Depends="nothing | tool:any, virt (>= 3)")
    archive.add("virt-a", at="tiny", Provides="virt (= 3.0), mail")
    archive.add("virt-b", at="tiny", Provides="virt (= 2.0),\n mail")
    archive.add("only", "1", at="free")
    for suite, version in zip(SUITES, ("1.0", "2.0", "3.0~bpo1"), strict=True):
        archive.add("tool", version, at=suite, Multi_Arch="allowed")
        archive.add("library", version, at=suite)
        archive.add("user", version, at=suite, Depends=f"tool ({'<<' if version == '1.0' else '>='} 2)")
        archive.add("strict", version, at=suite, Depends=f"library (= {version})")
    archive.add("newer", at="tiny-backports", Depends="chain")
    archive.add("chain", at="tiny-backports", Depends="strict (>= 3.0~)")
    archive.publish("tiny", {"main": "tiny", "free": "free"})
    archive.publish("tiny-updates", {"main": "tiny-updates", "free": None})
    archive.publish("tiny-backports", {"main": "tiny-backports"}, release=BACKPORTS)
    made = job(folder / "index", archive.params(suites=list(SUITES), components=["main", "free"]))
    try:
        build_index(made)
        yield Input("index", "index:wide", made.out, "")
    finally:
        archive.close()


def locked(folder: Path, index: Input, asked: Mapping[str, str] | Sequence[str], base: Sequence[str] = ()) -> list[str]:
    """What is locked for these, on top of a base: "name version"."""
    inputs = [index]
    if base:
        below = job(folder / "base", {"packages": dict.fromkeys(base, "distribution"), "architecture": "amd64"}, index)
        build_lock(below)
        inputs.append(Input("base", "", below.out, ""))
    wanted = asked if isinstance(asked, Mapping) else dict.fromkeys(asked, "OPKG app")
    made = job(folder / "lock", {"packages": wanted, "architecture": "amd64"}, *inputs)
    build_lock(made)
    found = [f"{package.name} {package.evr}" for package in read_lock(made.out / "lock.json")]
    return [one for one in found if one != "apt 1"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (["tool"], ["tool 2.0"]),
        (["tool<<2"], ["tool 1.0"]),
        (["tool (<= 1.0)"], ["tool 1.0"]),
        (["tool=1.0"], ["tool 1.0"]),
        (["tool>=1.5", "tool<<3~"], ["tool 2.0"]),
        (["tool>=3~"], ["tool 3.0~bpo1"]),
        (["tool>2.0"], ["tool 3.0~bpo1"]),
        (["strict"], ["library 2.0", "strict 2.0"]),
        (["strict=1.0"], ["library 1.0", "strict 1.0"]),
        (["strict>=3~"], ["library 3.0~bpo1", "strict 3.0~bpo1"]),
        (["newer"], ["chain 1", "library 3.0~bpo1", "newer 1", "strict 3.0~bpo1"]),
        (["tool:any<<2", "library:amd64"], ["library 2.0", "tool 1.0"]),
        (["any"], ["any 1", "tool 2.0", "virt-a 1"]),
        (["virt>=3"], ["virt-a 1"]),
        (["virt<<3"], ["virt-b 1"]),
        (["mail", "virt-b"], ["virt-b 1"]),
        (["only"], ["only 1"]),
        (["user"], ["tool 2.0", "user 2.0"]),
        (["user", "tool<<2"], ["tool 1.0", "user 1.0"]),
        (["user>=2", "tool>=3~"], ["tool 3.0~bpo1", "user 2.0"]),
    ],
)
def test_the_version_that_fits_is_taken(index: Input, tmp_path: Path, asked: list[str], wanted: list[str]) -> None:
    assert locked(tmp_path, index, asked) == wanted


def test_what_the_base_has_is_not_locked_again(index: Input, tmp_path: Path) -> None:
    assert locked(tmp_path, index, ["tool>=2", "virt>=2", "library"], base=["tool", "virt-b"]) == ["library 2.0"]


def test_what_fits_the_base_is_taken(index: Input, tmp_path: Path) -> None:
    assert locked(tmp_path / "1", index, ["user"], base=["tool<<2"]) == ["user 1.0"]
    with pytest.raises(UserError, match=r"^tool 1\.0 of the base root would have to be replaced for user \(= 2\.0\) "):
        locked(tmp_path / "2", index, ["user=2.0"], base=["tool<<2"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"tool>=9": "OPKG a"}, r"^no tool that is >= 9 \(OPKG a\): tiny \(main free\), .* has 2\.0, 1\.0, 3\.0~bpo1$"),
        ({"tool>=2": "OPKG a", "tool<<2": "distro d"}, r"no tool that is << 2 \(distro d\) and >= 2 \(OPKG a\)"),
        (
            {"virt>=4": "OPKG a"},
            r"no virt that is >= 4 \(OPKG a\): .* virt-a, which provides virt \(= 3\.0\), virt-b, ",
        ),
        ({"mail": "OPKG a"}, r"^mail \(OPKG a\): that is provided by virt-a, virt-b$"),
        ({"toool": "OPKG a"}, r"^unknown package: toool \(OPKG a; did you mean tool"),
        ({"library:i386": "OPKG a"}, r"^library:i386 \(OPKG a\): only packages for amd64 are read"),
        ({"Tool": "OPKG a"}, r"^'Tool' is no package \(OPKG a\)$"),
        ({"tool >=": "OPKG a"}, r"is no package \(OPKG a\)"),
    ],
)
def test_what_cannot_be_had_is_told_with_who_asked_and_what_there_is(
    index: Input, tmp_path: Path, asked: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        locked(tmp_path, index, asked)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("tool<<2", r"^tool that is << 2 \(OPKG app\): the base root of the distribution has tool 2\.0$"),
        ("newer", r"do not go together: newer \(OPKG app\)$"),
    ],
)
def test_what_does_not_fit_the_base_is_told(index: Input, tmp_path: Path, asked: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        locked(tmp_path, index, [asked], base=["tool", "strict"])
