"""Index, lock and fetch against a real archive, a tiny one; and every way in which they fail."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.packages.deb.fetch import build as build_fetch
from pipeline.packages.deb.index import build as build_index
from pipeline.packages.deb.mirrors import VARIABLE, mirrors_for
from pipeline.packages.deb.resolve import build as build_lock
from pipeline.packages.deb.stanzas import Index, trimmed
from pipeline.packages.given import variable_of
from pipeline.packages.lock import read as read_lock
from pipeline.step import Input
from tests.debmirror import SUITE, Archive, served
from tests.namespaced import job


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    archive = Archive(folder / "mirror", folder / "gnupg")
    archive.add("tiny-libc", "2:1.0+b1", Priority="required")
    archive.add("tiny-shell", Essential="yes", Depends="tiny-libc")
    archive.add("apt", "2.6", Depends="tiny-libc")
    archive.add("munge", "0.5.15", Depends="tiny-shell, libmunge (>= 0.5)", Recommends="fancy")
    archive.add("libmunge", "0.5.15", Provides="munge-api")
    archive.add("fancy", "1")
    archive.add("broken", "1", Depends="libmunge (>= 9)")
    archive.add("rival", "1", Conflicts="munge")
    archive.publish()
    yield archive
    archive.close()


@pytest.fixture(autouse=True)
def _no_mirror_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def index(folder: Path, archive: Archive, **params: Any) -> Input:
    work = job(folder, {**archive.params(), **params})
    build_index(work)
    return Input("index", "index:tiny", work.out, "")


def lock(folder: Path, packages: list[str], *inputs: Input) -> Input:
    asked = dict.fromkeys(packages, "OPKG app")
    work = job(folder, {"packages": asked, "architecture": "amd64"}, *inputs)
    build_lock(work)
    return Input("lock", "lock:tiny", work.out, "")


def names(lock: Input) -> list[str]:
    return [package.name for package in read_lock(lock.file("lock.json"))]


def test_base_lock_holds_what_every_system_has_and_no_recommendations(archive: Archive, tmp_path: Path) -> None:
    found = index(tmp_path / "index", archive)
    base = lock(tmp_path / "base", ["munge"], found)
    assert names(base) == ["apt", "libmunge", "munge", "tiny-libc", "tiny-shell"]
    libc = next(package for package in read_lock(base.file("lock.json")) if package.name == "tiny-libc")
    assert libc.evr == "2:1.0+b1"
    assert libc.archive == "main"
    assert (archive.root / libc.path).stat().st_size == libc.size
    assert "Priority: required\n" in libc.text


def test_nothing_downstream_names_the_mirror(archive: Archive, tmp_path: Path) -> None:
    with served(archive.root) as url:
        found = index(tmp_path / "index", archive, mirror=url)
        base = lock(tmp_path / "base", [], found)
    assert (
        base.file("lock.json").read_bytes()
        == lock(tmp_path / "again", [], index(tmp_path / "file", archive)).file("lock.json").read_bytes()
    )
    for file in [*found.path.rglob("*"), *base.path.rglob("*")]:
        assert "127.0.0.1" not in file.name
        assert not file.is_file() or b"127.0.0.1" not in file.read_bytes()


def test_lock_on_a_base_holds_only_what_comes_on_top(archive: Archive, tmp_path: Path) -> None:
    found = index(tmp_path / "index", archive)
    base = lock(tmp_path / "base", [], found)
    top = lock(tmp_path / "top", ["munge", "tiny-shell"], found, Input("base", "lock:base", base.path, ""))
    assert names(top) == ["libmunge", "munge"]
    nothing = lock(tmp_path / "none", [], found, Input("base", "lock:base", base.path, ""))
    assert names(nothing) == []


def test_fetched_packages_are_whole_and_kept_once(archive: Archive, tmp_path: Path) -> None:
    locked = lock(tmp_path / "lock", ["munge"], index(tmp_path / "index", archive))
    seen: list[tuple[int, int]] = []
    with served(archive.root) as url:
        work = job(
            tmp_path / "fetch",
            archive.params(url),
            locked,
            progress=lambda done, total, unit: seen.append((done, total)),
        )
        build_fetch(work)
    total = sum(package.size for package in read_lock(locked.file("lock.json")))
    assert seen[-1] == (total, total)
    for package in read_lock(locked.file("lock.json")):
        file = work.out / "packages" / package.file
        assert file.read_bytes() == (archive.root / package.path).read_bytes()
        assert file.samefile(work.pool / f"{package.sha256}.deb")
    again = job(tmp_path / "again", archive.params("ftp://no.mirror"), locked, pool=work.pool)
    build_fetch(again)  # from the pool alone: nobody asks where else they are
    assert len(list((again.out / "packages").iterdir())) == len(list((work.out / "packages").iterdir()))


def test_a_damaged_file_in_the_pool_is_fetched_again(archive: Archive, tmp_path: Path) -> None:
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    package = read_lock(locked.file("lock.json"))[0]
    work = job(tmp_path / "fetch", archive.params(), locked)
    (work.pool / f"{package.sha256}.deb").write_text("not a package")
    build_fetch(work)
    assert (work.out / "packages" / package.file).stat().st_size == package.size


def test_what_a_killed_run_left_goes_and_what_another_one_writes_stays(archive: Archive, tmp_path: Path) -> None:
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    work = job(tmp_path / "fetch", archive.params(), locked)
    left, written = work.pool / "1-left.part", work.pool / "2-written.part"
    left.touch()
    with written.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        os.utime(written, (0, 0))  # as after a clock that jumped
        build_fetch(work)
    assert list(work.pool.glob("*.part")) == [written]


def test_wrong_checksum_names_both(archive: Archive, tmp_path: Path) -> None:
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    content = json.loads(locked.file("lock.json").read_text())
    content["packages"][0]["sha256"] = "0" * 64
    locked.file("lock.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="wrong checksum") as caught:
        build_fetch(job(tmp_path / "fetch", archive.params(), locked))
    assert "0" * 64 in caught.value.message
    assert len(list((tmp_path / "fetch/pool").glob("*.part"))) == 0


@pytest.mark.parametrize("over_http", [True, False])
def test_a_package_that_is_gone_says_what_to_do(archive: Archive, tmp_path: Path, over_http: bool) -> None:
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    content = json.loads(locked.file("lock.json").read_text())
    content["packages"][0]["path"] = "pool/gone_1_all.deb"
    locked.file("lock.json").write_text(json.dumps(content))
    with served(archive.root) as url, pytest.raises(UserError, match=r"gone_1_all\.deb: (404|no such)") as caught:
        build_fetch(job(tmp_path / "fetch", archive.params(url if over_http else ""), locked))
    assert "doit update" in caught.value.hint


def test_a_mirror_that_does_not_answer(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.packages.pool._TRIES", 1)
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    with pytest.raises(UserError, match="cannot fetch") as caught:
        build_fetch(job(tmp_path / "fetch", archive.params("http://127.0.0.1:9"), locked))
    assert "network" in caught.value.hint
    with pytest.raises(UserError, match="cannot be reached"):
        index(tmp_path / "other", archive, mirror="http://127.0.0.1:9")


def test_unknown_package_names_the_closest_and_where_it_was_searched(archive: Archive, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown package: mugne .*munge") as caught:
        lock(tmp_path / "lock", ["mugne"], index(tmp_path / "index", archive))
    assert f"{SUITE} (main)" in caught.value.hint


def test_versions_can_be_asked_for(archive: Archive, tmp_path: Path) -> None:
    found = index(tmp_path / "index", archive)
    assert "munge" in names(lock(tmp_path / "good", ["munge>=0.5", "libmunge=0.5.15", "tiny-libc (>> 2:0.9)"], found))
    assert "libmunge" in names(lock(tmp_path / "virtual", ["munge-api"], found))
    for number, wish in enumerate(("munge>=9", "munge=1.0", "munge<0.5")):
        with pytest.raises(UserError, match=r"no munge that is .*0\.5\.15"):
            lock(tmp_path / str(number), [wish], found)
    with pytest.raises(UserError, match="is no package"):
        lock(tmp_path / "odd", ["Munge!"], found)


@pytest.mark.parametrize(("packages", "reason"), [(["broken"], "libmunge"), (["munge", "rival"], "rival")])
def test_what_cannot_be_installed_together_is_explained_by_apt(
    archive: Archive, tmp_path: Path, packages: list[str], reason: str
) -> None:
    with pytest.raises(UserError, match="do not go together") as caught:
        lock(tmp_path / "lock", packages, index(tmp_path / "index", archive))
    assert reason in caught.value.tail


def test_wrong_mirror_suite_and_keyring(archive: Archive, tmp_path: Path) -> None:
    with served(archive.root) as url:
        with pytest.raises(UserError, match="wrong mirror"):
            index(tmp_path / "1", archive, mirror=f"{url}/elsewhere")
        with pytest.raises(UserError, match="wrong mirror"):
            index(tmp_path / "2", archive, suites=["sarge"], mirror=url)
    with pytest.raises(UserError, match="no suite has the component games"):
        index(tmp_path / "3", archive, components=["main", "games"])
    with pytest.raises(UserError, match="is missing"):
        index(tmp_path / "4", archive, keyring="nowhere.gpg")


def test_mirrors_of_a_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"distro": "debian13", "suites": ["trixie", "trixie-security"], "mirror": ""}
    with pytest.raises(UserError, match="no mirror") as caught:
        mirrors_for(params, tmp_path)
    assert VARIABLE in caught.value.hint
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb https://tools.example/apt stable main\n"
        "deb [arch=amd64 signed-by=/x] http://one.example/debian/ bookworm main contrib\n"
        "deb http://sec.example/debian-security bookworm-security main\n"
    )
    found = mirrors_for(params, tmp_path)
    assert (found.main, found.security) == ("http://one.example/debian", "http://sec.example/debian-security")
    (tmp_path / "sources.list").unlink()
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n"
        "# the one in use\nTypes: deb deb-src\nURIs: http://two.example/deb\nSuites: trixie\n trixie-updates\n"
        "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    )
    found = mirrors_for(params, tmp_path)
    assert (found.main, found.security) == ("http://two.example/deb", "http://two.example/deb-security")
    monkeypatch.setenv(VARIABLE, "http://three.example/debian/ http://four.example/s")
    assert mirrors_for(params, tmp_path).base("security") == "http://four.example/s"
    assert mirrors_for({**params, "mirror": "file:///srv/debian"}, tmp_path).main == "file:///srv/debian"
    with pytest.raises(UserError, match="is no URL"):
        mirrors_for({**params, "mirror": "three.example"}, tmp_path)
    for url in ("http://[/x", "http://a:b:c/", "http://a:99999", "http:///debian"):
        with pytest.raises(UserError, match="is no URL"):
            mirrors_for({**params, "mirror": url}, tmp_path)
    monkeypatch.setenv(variable_of("debian13"), f"{tmp_path}")
    assert mirrors_for({**params, "mirror": "file:///srv/debian"}, tmp_path).main == tmp_path.as_uri()


def test_a_proxy_is_used(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request through a proxy names the whole URL; the tiny server takes the path of it, as a proxy would."""
    monkeypatch.setenv("no_proxy", "")
    locked = lock(tmp_path / "lock", [], index(tmp_path / "index", archive))
    with served(archive.root) as url:
        monkeypatch.setenv("http_proxy", url)
        build_fetch(job(tmp_path / "fetch", archive.params("http://mirror.invalid"), locked))
        build_index(job(tmp_path / "again", archive.params("http://mirror.invalid")))


def test_a_trimmed_index_keeps_what_counts(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/x_Packages").write_bytes(
        trimmed(
            b"Package: a\nVersion: 1\nEssential: yes\nDepends: b,\n c\nDescription: long\n text\nMD5sum: 0\n\n"
            b"Package: b\nVersion: 1\nProvides: x (= 1),\n virtual\nTag: t,\n u\nPriority: required\n\n"
        )
    )
    index = Index(tmp_path)
    assert index.candidates("a")[0].text == "Package: a\nVersion: 1\nEssential: yes\nDepends: b,\n c\n"
    assert index.minimal() == ["a", "apt", "b"]
    assert "virtual" in index
    assert "virt" not in index


def test_text_of_no_encoding_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/x_Packages").write_bytes(
        b"Package: a\nVersion: 1\nDepends: b\nSection: caf\xe9\n\nPackage: \xff\n\n"
    )
    index = Index(tmp_path)
    assert index.candidates("a")[0].get("Section") == "caf\ufffd"
    assert "\ufffd" in index
