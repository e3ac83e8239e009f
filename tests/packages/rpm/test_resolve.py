"""Index, lock and fetch of RPM repositories: from a mirror that is made here, by libsolv and held against dnf."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError
from pipeline.packages import lock
from pipeline.packages.rpm import fetch, index, resolve
from pipeline.step import Input
from tests import rpmsuite
from tests.namespaced import job
from tests.rpmsuite import Suite

COMPS = """<comps>
<group><id>core</id><name>Core</name><packagelist>
<packagereq type="mandatory">app</packagereq>
<packagereq type="default">tool</packagereq>
<packagereq type="optional">extra</packagereq>
<packagereq type="mandatory" arch="s390x">elilo</packagereq>
<packagereq type="mandatory">gone</packagereq>
<packagereq type="conditional" requires="lib">lib-devel</packagereq>
<packagereq type="conditional" requires="absent">extra</packagereq>
</packagelist></group></comps>
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Repositories `base` and `updates`, and packages with all that dependencies can be."""
    made = rpmsuite.make(tmp_path_factory.mktemp("suite"))
    rpm = made.rpm
    rpm("app", "1", tags="Requires: lib >= 1, /usr/share/tool/data")
    rpm("app", "2", repository="updates", tags="Requires: lib >= 2, /usr/share/tool/data\nRecommends: extra")
    rpm("lib", "1", architecture="x86_64")
    rpm("lib", "2", repository="updates", architecture="x86_64", epoch="1")
    rpm("lib", "2", repository="updates", architecture="i686", epoch="1", files={"/usr/share/lib32/data": "x"})
    rpm("lib-devel", "1")
    rpm("tool", "1", tags="Provides: old-tool = 1\nObsoletes: old-tool < 1")
    rpm("extra", "1")
    rpm("left", "1", tags="Requires: right")
    rpm("right", "1", tags="Conflicts: tool")
    rpm("broken", "1", tags="Requires: nothing-has-this >= 3")
    made.publish(comps=COMPS)
    made.publish("updates")
    return made


PARAMS: dict[str, Any] = {
    "distro": "tiny",
    "repositories": [{"name": "base", "path": "base"}, {"name": "updates", "path": "updates"}],
    "architecture": "x86_64",
    "mirror": "",
    "keys": [],
}


def indexed(suite: Suite, folder: Path, **changes: Any) -> Input:
    made = job(folder / "index", {**PARAMS, "mirror": str(suite.root), **changes})
    index.build(made)
    return Input("index", "", made.out, "")


def locked(folder: Path, found: Input, *wanted: str, base: Path | None = None, **changes: Any) -> list[str]:
    """What is locked for these wishes: NAME-EVR.ARCHITECTURE."""
    params = {"packages": dict.fromkeys(wanted, "a test"), "architecture": "x86_64", **changes}
    inputs = [found, *([Input("base", "", base, "")] if base else [])]
    made = job(folder, params, *inputs)
    resolve.build(made)
    return [f"{one.name}-{one.evr}.{one.architecture}" for one in lock.read(made.out / lock.NAME)]


@pytest.fixture(scope="module")
def found(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Input:
    return indexed(suite, tmp_path_factory.mktemp("found"))


def test_the_newest_that_goes_together_is_locked(found: Input, tmp_path: Path) -> None:
    everything = ["app-2-1.noarch", "lib-1:2-1.x86_64", "tool-1-1.noarch"]
    assert locked(tmp_path / "a", found, "app") == everything
    assert locked(tmp_path / "b", found, "app") == everything
    assert (tmp_path / "a/out/lock.json").read_bytes() == (tmp_path / "b/out/lock.json").read_bytes()
    assert locked(tmp_path / "c", found, "app<2") == ["app-1-1.noarch", "lib-1:2-1.x86_64", "tool-1-1.noarch"]
    assert locked(tmp_path / "d", found, "app", weak=True) == sorted([*everything, "extra-1-1.noarch"])
    assert locked(tmp_path / "e", found, "old-tool") == ["tool-1-1.noarch"], "what provides it"


def test_both_architectures_where_both_are_asked_for(found: Input, tmp_path: Path) -> None:
    both = ["lib-1:2-1.i686", "lib-1:2-1.x86_64"]
    assert locked(tmp_path / "a", found, "lib", "lib.i686") == both
    assert locked(tmp_path / "b", found, "lib", "lib:i686") == both, "as OSCAR's lists may have it"
    assert locked(tmp_path / "c", found, "lib:x86_64>=2", "lib:i686") == both


def test_on_i386_the_newest_is_taken_and_of_it_the_one_for_the_newest_processor(tmp_path: Path) -> None:
    made = rpmsuite.make(tmp_path)
    for architecture in ("i386", "i586", "i686", "x86_64"):
        made.rpm("kernel", "1", architecture=architecture)
    made.rpm("library", "1", architecture="i686")
    made.rpm("library", "2", architecture="i386")
    made.rpm("program", "1", architecture="i486", tags="Requires: kernel, data, library")
    made.rpm("newer", "1", tags="Requires: library >= 2")
    made.rpm("data", "1")
    made.rpm("other", "9", architecture="x86_64")
    made.publish()
    found = indexed(made, tmp_path, repositories=[{"name": "base", "path": "base"}], architecture="i386")
    wanted = partial(locked, architecture="i386")
    everything = ["data-1-1.noarch", "kernel-1-1.i686", "library-2-1.i386", "program-1-1.i486"]
    assert wanted(tmp_path / "a", found, "program") == everything
    assert wanted(tmp_path / "b", found, "program", "library", "newer") == sorted([*everything, "newer-1-1.noarch"])
    assert wanted(tmp_path / "c", found, "kernel.i586") == ["kernel-1-1.i586"]
    assert wanted(tmp_path / "d", found, "kernel", "kernel.i686") == ["kernel-1-1.i686"]
    wanted(tmp_path / "base", found, "library")
    assert wanted(tmp_path / "top", found, "newer", base=tmp_path / "base/out") == ["newer-1-1.noarch"]
    with pytest.raises(BuildError, match=r"other-9-1\.x86_64|there is no package other"):
        wanted(tmp_path / "e", found, "other")


def test_what_is_there_already_stays(found: Input, tmp_path: Path) -> None:
    locked(tmp_path / "base", found, "lib", "tool")
    base = tmp_path / "base/out"
    assert locked(tmp_path / "top", found, "app", base=base) == ["app-2-1.noarch"]
    assert locked(tmp_path / "none", found, "tool", base=base) == []
    locked(tmp_path / "old", found, "app<2", "lib<2")
    with pytest.raises(BuildError, match=r"app-1-1\.noarch.* of the base root would have to be replaced"):
        locked(tmp_path / "newer", found, "app>=2", base=tmp_path / "old/out")


def test_a_group_stands_for_its_members(found: Input, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = ["app-2-1.noarch", "lib-1:2-1.x86_64", "lib-devel-1-1.noarch", "tool-1-1.noarch"]
    assert locked(tmp_path / "a", found, "@core") == members
    assert "gone of the group @core is in no repository; passed over" in capsys.readouterr().out
    with pytest.raises(BuildError, match=r'no group @cores \(a test\); did you mean "core"\?'):
        locked(tmp_path / "b", found, "@cores")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (["ap"], r"there is no package ap \(a test\)"),
        (["broken"], "nothing provides nothing-has-this >= 3 needed by broken-1-1.noarch"),
        (["left", "tool"], "right-1-1.noarch conflicts with tool provided by tool-1-1.noarch"),
        (["app>=3"], r"there is no package app>=3"),
    ],
)
def test_what_cannot_be_is_told_in_words(found: Input, tmp_path: Path, wanted: list[str], told: str) -> None:
    with pytest.raises(BuildError) as caught:
        locked(tmp_path / "a", found, *wanted)
    assert told.replace("\\", "") in f"{caught.value.message}\n{caught.value.tail}"


def test_excluded_packages_are_not_there(found: Input, tmp_path: Path) -> None:
    assert locked(tmp_path / "a", found, "app", excluded=["app-2*", "lib-dev*"])[0] == "app-2-1.noarch"
    with pytest.raises(BuildError, match="there is no package app"):
        locked(tmp_path / "b", found, "app", excluded=["app"])


#: What dnf itself would install of the repositories in its arguments, which it lists after the packages.
DNF = """
import sys, dnf
cache, packages, *places = sys.argv[1:]
base = dnf.Base()
base.conf.cachedir, base.conf.installroot, base.conf.persistdir = cache, cache + "/root", cache
base.conf.install_weak_deps = False
base.conf.substitutions["releasever"] = "1"
for number, place in enumerate(places):
    base.repos.add_new_repo(str(number), base.conf, baseurl=["file://" + place])
base.fill_sack(load_system_repo=False)
for name in packages.split():
    base.install(name)
base.resolve()
print(*sorted(str(one) for one in base.transaction.install_set))
"""


@pytest.mark.parametrize(
    "wanted",
    [
        "app",
        "lib.x86_64 lib.i686",
        "app lib.i686",
        "old-tool lib-devel",
        "lib extra",
        "app-1",
        "app-2-1",
        "app-2-1.noarch",
        "lib-2-1.i686",
        "lib-1:2-1.x86_64",
    ],
)
def test_dnf_finds_the_same(suite: Suite, found: Input, tmp_path: Path, wanted: str) -> None:
    ours = locked(tmp_path / "a", found, *wanted.split())
    argv = ["/usr/bin/python3", "-c", DNF, tmp_path, wanted, suite.root / "base", suite.root / "updates"]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == sorted(ours), done.stderr


def test_what_is_fetched_is_what_was_locked(suite: Suite, found: Input, tmp_path: Path) -> None:
    names = locked(tmp_path / "lock", found, "app")
    given = Input("lock", "", tmp_path / "lock/out", "")
    made = job(tmp_path / "fetch", {**PARAMS, "mirror": str(suite.root)}, given)
    fetch.build(made)
    assert len(list((made.out / "packages").iterdir())) == len(names) == 3


def test_sha1_is_enough_where_the_recipe_says_so(tmp_path: Path) -> None:
    made = rpmsuite.make(tmp_path / "suite")
    made.rpm("app", "1")
    made.publish(checksum="sha")
    one = {**PARAMS, "repositories": [{"name": "base", "path": "base"}], "mirror": str(made.root)}
    taken = job(tmp_path / "index", one)
    index.build(taken)
    found = Input("index", "", taken.out, "")
    with pytest.raises(BuildError, match=r"app-1-1\.noarch: no SHA-256 in the metadata of base") as caught:
        locked(tmp_path / "lock", found, "app")
    assert "sha1 = true" in (caught.value.hint or "")
    chosen = job(tmp_path / "sha1", {"packages": {"app": ""}, "architecture": "x86_64", "sha1": True}, found)
    resolve.build(chosen)
    given = Input("lock", "", chosen.out, "")
    brought = job(tmp_path / "fetch", one, given)
    fetch.build(brought)
    [file] = (brought.out / "packages").iterdir()
    assert (brought.out / "SHA256SUMS").read_text().split()[0] == hashlib.sha256(file.read_bytes()).hexdigest()
    package = made.files["base"][0]
    package.write_bytes(package.read_bytes()[:-1] + b"?")  # of the same size
    with pytest.raises(BuildError, match="wrong checksum\nwanted SHA-1"):
        fetch.build(job(tmp_path / "again", one, given))


class Mirror(http.server.SimpleHTTPRequestHandler):
    """Notes nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(suite: Suite, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A copy of the mirror that can be spoiled, over http."""
    root = Path(shutil.copytree(suite.root, tmp_path / "mirror"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", root
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mirror_over_http_gives_the_same_index(suite: Suite, served: tuple[str, Path], tmp_path: Path) -> None:
    one = indexed(suite, tmp_path / "file")
    made = job(tmp_path / "http", {**PARAMS, "mirror": served[0]})
    index.build(made)
    for path in sorted(one.path.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (made.out / path.relative_to(one.path)).read_bytes(), path


def test_what_is_wrong_with_a_mirror_is_told(served: tuple[str, Path], tmp_path: Path) -> None:
    url, root = served
    repomd, primary = root / "base/repodata/repomd.xml", root / "base/repodata/primary.xml.gz"
    good = repomd.read_text()

    def told(number: str) -> str:
        with pytest.raises(BuildError) as caught:
            index.build(job(tmp_path / number, {**PARAMS, "mirror": url}))
        return caught.value.message

    repomd.write_text(good.replace("primary", "primarie"))
    assert "names no primary" in told("1")
    repomd.write_text(good.replace("repodata/primary", "../../../etc/primary"))
    assert "names primary in a way that is not known" in told("2")
    repomd.write_text(good.replace('<location href="repodata/primary', '<location xml:base="b" href="repodata/primary'))
    assert "names primary in a way that is not known" in told("base")
    repomd.write_text("<html>")
    assert "is no repository of RPM packages: its repodata/repomd.xml is no XML" in told("3")
    repomd.write_text(good)
    primary.write_bytes(primary.read_bytes()[:-9])
    assert "base/repodata/primary.xml.gz is not what repodata/repomd.xml says" in told("4")
    primary.unlink()
    assert "404" in told("5")
    with pytest.raises(BuildError, match="nobody has said where the packages of tiny are"):
        index.build(job(tmp_path / "6", PARAMS))
    with pytest.raises(BuildError, match="nothing would check what comes from http:"):
        index.build(job(tmp_path / "7", {**PARAMS, "mirror": "http://mirror.invalid"}))


def test_the_index_names_no_mirror(found: Input) -> None:
    assert json.loads((found.path / index.LIST).read_bytes()) == ["base", "updates"]
    assert sorted(path.name for path in (found.path / "base").iterdir()) == ["comps", "filelists", "primary"]
