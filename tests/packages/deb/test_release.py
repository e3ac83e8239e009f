"""Archives are read as apt reads them, however they are packed and signed; where they are not it is told why."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.packages.deb.fetch import build as build_fetch
from pipeline.packages.deb.index import build as build_index
from pipeline.packages.deb.mirrors import VARIABLE
from pipeline.packages.deb.resolve import build as build_lock
from pipeline.packages.deb.stanzas import Index
from pipeline.packages.lock import read as read_lock
from pipeline.step import Input
from tests.debmirror import SUITE, Archive, served
from tests.namespaced import job

#: No name is like another one as a URL, as a file and as apt writes it down.
ODD = {"tool_1.0~rc1+b1_all.deb": "tool_2%3a1.0~rc1+b1_all.deb", "g++-odd_1.0_all.deb": "g++-odd 2:1.0 [x]_all.deb"}


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.delenv(VARIABLE, raising=False)
    archive = Archive(tmp_path / "mirror", tmp_path / "gnupg")
    archive.add("apt")
    archive.add("tool", "2:1.0~rc1+b1", at="more")
    archive.add("g++-odd", "2:1.0", at="more", Architecture="amd64")
    try:
        yield archive
    finally:
        archive.close()


def index(folder: Path, archive: Archive, **params: Any) -> Input:
    made = job(folder, archive.params(**params))
    build_index(made)
    return Input("index", "", made.out, "")


def lock(folder: Path, index: Input, *names: str) -> Input:
    made = job(folder, {"packages": dict.fromkeys(names, "OPKG a"), "architecture": "amd64"}, index)
    build_lock(made)
    return Input("lock", "", made.out, "")


def locked(lock: Input) -> list[str]:
    return [package.name for package in read_lock(lock.file("lock.json"))]


@pytest.mark.parametrize(
    "how",
    [
        {"suffixes": [""]},
        {"suffixes": [".gz"]},
        {"suffixes": [".xz"]},
        {"suffixes": [".bz2"]},
        {"suffixes": [".zst"]},
        {"suffixes": [".xz"], "by_hash": True},
        {"signed": "detached"},
        {"sums": ["MD5Sum", "SHA512"]},
        {"release": "Codename: stable\nSuite: other\n"},
        {"architectures": ["all"]},
    ],
    ids=str,
)
def test_whatever_apt_reads_is_read(archive: Archive, tmp_path: Path, how: dict[str, Any]) -> None:
    archive.publish(**how)
    assert "apt" in Index(index(tmp_path / "index", archive).path)


def test_components_may_be_empty_or_in_some_suites_only(archive: Archive, tmp_path: Path) -> None:
    """As bookworm-updates has nothing in contrib, and other archives no contrib at all."""
    archive.publish(SUITE, {"main": "", "contrib": None, "extra": "more"})
    archive.publish("tiny-updates", {"main": None, "contrib": None})
    archive.publish("empty", {"main": None})
    found = index(
        tmp_path / "index", archive, suites=[SUITE, "tiny-updates", "empty"], components=["main", "contrib", "extra"]
    )
    assert found.file("sources.list").read_text().splitlines() == [
        "deb [trusted=yes] http://main tiny main contrib extra",
        "deb [trusted=yes] http://main tiny-updates main contrib",
        "deb [trusted=yes] http://main empty main",
    ]
    sizes = {
        file.name.partition("_dists_")[2].partition("_binary")[0]: file.stat().st_size > 0
        for file in found.file("lists").glob("*_Packages")
    }
    assert sizes == {
        "tiny_main": True,
        "tiny_contrib": False,
        "tiny_extra": True,
        "tiny-updates_main": False,
        "tiny-updates_contrib": False,
        "empty_main": False,
    }
    assert locked(lock(tmp_path / "lock", found, "tool")) == ["apt", "tool"]


def test_an_index_for_all_architectures_stands_beside_the_others(archive: Archive, tmp_path: Path) -> None:
    archive.publish(SUITE, {"main": "", "more": "more"}, architectures=["all", "amd64"])
    found = index(tmp_path / "index", archive, components=["main", "more"])
    assert locked(lock(tmp_path / "lock", found, "tool", "g++-odd")) == ["apt", "g++-odd", "tool"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda keys: keys,
        lambda keys: keys.replace(b"\n", b"\r\n"),
        lambda keys: keys + keys,
    ],
    ids=["as it is", "from Windows", "several"],
)
def test_keyrings_may_be_text(archive: Archive, tmp_path: Path, edit: Callable[[bytes], bytes]) -> None:
    archive.publish()
    keys = subprocess.run(["gpg", "--homedir", archive.home, "--armor", "--export"], check=True, capture_output=True)
    (tmp_path / "keys").write_bytes(edit(keys.stdout))
    index(tmp_path / "index", archive, keyring=str(tmp_path / "keys"))


@pytest.mark.parametrize("place", ["over http", "with space & \u00fcmlaut + [x]#", "100% full"])
def test_odd_names_of_folders_and_packages(
    archive: Archive, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = tmp_path / """a:1,b \u00fc 100% 'q' "q" \\x #[y]"""
    artifacts.mkdir()
    monkeypatch.setenv("TMPDIR", str(artifacts))  # as it is where builders run
    for name, odd in ODD.items():
        (archive.root / "pool/more" / name).rename(archive.root / "pool/more" / odd)
    archive.publish(SUITE, {"main": "", "more": "more"})
    folder = tmp_path / place
    shutil.copytree(archive.root, folder)
    with served(folder) as url:
        mirror = url if place == "over http" else folder.as_uri()
        read = index(artifacts / "index", archive, components=["main", "more"], mirror=mirror)
        found = lock(artifacts / "lock", read, "tool", "g++-odd")
        made = job(artifacts / "fetch", archive.params(mirror), found)
        build_fetch(made)
    assert {file.name for file in (made.out / "packages").iterdir()} == {"apt_1_all.deb", *ODD.values()}


def test_redirects_are_followed(archive: Archive, tmp_path: Path) -> None:
    archive.publish()
    with served(archive.root) as to, served(archive.root, lambda path: (302, {"Location": to + path}, b"")) as url:
        found = lock(tmp_path / "lock", index(tmp_path / "index", archive, mirror=url))
        build_fetch(job(tmp_path / "fetch", archive.params(url), found))


@pytest.mark.parametrize(
    ("how", "params", "message"),
    [
        ({}, {"components": ["main", "mian"]}, r"no suite has the component mian; did you mean \"main\"\?"),
        ({}, {"components": ["other"]}, "no suite has the component other"),
        ({"architectures": ["arm64"]}, {}, "tiny has no packages for amd64; it is for arm64"),
        ({"suffixes": [".xz"], "plain": False}, {}, r"packed index \(Packages\.xz\) and not of Packages itself"),
    ],
)
def test_what_is_not_there_is_told(
    archive: Archive, tmp_path: Path, how: dict[str, Any], params: dict[str, Any], message: str
) -> None:
    archive.publish(**how)
    with pytest.raises(UserError, match=message) as caught:
        index(tmp_path / "index", archive, **params)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("was", "then", "message"),
    [
        ("SHA256: ", "SHA512: ", r"^tool 2:1\.0~rc1\+b1: no SHA256 in the archive's index"),
        ("Size: ", "X: ", r"^the archive's index is not good: tool all 2:1\.0~rc1\+b1 has no Size information"),
        ("Filename: ", "X: ", r"^the archive's index is not good: .*'2:1\.0~rc1\+b1' of 'tool:amd64'"),
        ("Version: ", "X: ", r"^the archive's index is not good: Package 'tool' has no installation candidate"),
    ],
)
def test_packages_that_nobody_could_check_are_refused_by_name(
    archive: Archive, tmp_path: Path, was: str, then: str, message: str
) -> None:
    archive.publish(SUITE, {"main": ""})
    archive.publish("more", {"main": "more"}, edit=lambda text: text.replace(was, then))
    found = index(tmp_path / "index", archive, suites=[SUITE, "more"])
    lock(tmp_path / "without", found)
    with pytest.raises(UserError, match=message):
        lock(tmp_path / "lock", found, "tool")


def test_an_archive_that_contradicts_itself_is_refused(archive: Archive, tmp_path: Path) -> None:
    archive.publish()
    archive.publish("copy", edit=lambda text: text.replace("SHA256: ", "SHA256: " + "0" * 64 + "\nX: "))
    found = index(tmp_path / "index", archive, suites=[SUITE, "copy"])
    with pytest.raises(UserError, match=r"contradicts itself: its index has different files as apt 1"):
        lock(tmp_path / "lock", found)
