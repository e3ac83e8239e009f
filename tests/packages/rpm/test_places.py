"""What a person can name as the place of packages: a tree, one repository, a folder of packages, images of these."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError
from pipeline.packages import lock
from pipeline.packages.given import NoSource, give, variable_of
from pipeline.packages.http import Connections
from pipeline.packages.rpm import fetch, index, resolve
from pipeline.packages.rpm.places import Image
from pipeline.step import Input
from tests import rpmsuite
from tests.namespaced import job
from tests.packages.rpm.test_mirrors import serving
from tests.rpmsuite import Suite

PARAMS: dict[str, Any] = {
    "distro": "tiny",
    "repositories": [{"name": "base", "path": "4/os"}, {"name": "updates", "path": "4/updates"}],
    "architecture": "x86_64",
    "mirror": "",
    "keys": [],
}


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("tiny"), "")


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """`base` has all, `updates` a newer one of them."""
    made = rpmsuite.make(tmp_path_factory.mktemp("suite"))
    made.rpm("lib", "1", repository="4/os")
    made.rpm("app", "1", repository="4/os", tags="Requires: lib, /usr/share/lib/data")
    made.rpm("app", "2", repository="4/updates", tags="Requires: lib, /usr/share/lib/data")
    for name in ("4/os", "4/updates"):
        made.publish(name)
    return made


@pytest.fixture(scope="module")
def packages(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages without metadata: two below it, and what nobody can install."""
    folder = tmp_path_factory.mktemp("packages")
    (folder / "RPMS/a").mkdir(parents=True)
    for name, place in (("lib-1", "RPMS"), ("app-1", "RPMS/a")):
        shutil.copy(suite.root / f"4/os/Packages/{name}-1.noarch.rpm", folder / place)
    (folder / "RPMS/lib-1-1.src.rpm").write_text("sources")
    (folder / "README").write_text("read me")
    return folder


def image(folder: Path, target: Path) -> Path:
    """An ISO image of a folder, as discs are made."""
    argv = ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", target, folder]
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return target


def brought(folder: Path, *places: object) -> tuple[list[str], list[str]]:
    """The names of the repositories, and of the packages that are locked for `app` and fetched, by real steps."""
    give("tiny", [str(place) for place in places])
    indexed = job(folder / "index", PARAMS)
    index.build(indexed)
    wanted = {"packages": {"app": "a test"}, "architecture": "x86_64"}
    made = job(folder / "lock", wanted, Input("index", "", indexed.out, ""))
    resolve.build(made)
    came = job(folder / "fetch", PARAMS, Input("lock", "", made.out, ""))
    fetch.build(came)
    found = sorted(path.name.removesuffix(".noarch.rpm") for path in (came.out / "packages").iterdir())
    locked = [one.file.removesuffix(".noarch.rpm") for one in lock.read(made.out / lock.NAME)]
    assert sorted(locked) == found
    return json.loads((indexed.out / index.LIST).read_bytes()), found


def test_a_tree(suite: Suite, tmp_path: Path) -> None:
    everything = (["base", "updates"], ["app-2-1", "lib-1-1"])
    assert brought(tmp_path / "folder", suite.root) == everything
    assert brought(tmp_path / "image", image(suite.root, tmp_path / "tree.iso")) == everything


def test_what_the_pool_has_needs_no_place(suite: Suite, tmp_path: Path) -> None:
    """An image that is not there any more; what is damaged is brought again, and nothing else."""
    disc = image(suite.root, tmp_path / "tree.iso")
    _, found = brought(tmp_path, disc)
    disc.rename(tmp_path / "gone")
    given = Input("lock", "", tmp_path / "lock/out", "")
    again = job(tmp_path / "again", PARAMS, given, pool=tmp_path / "fetch/pool")
    fetch.build(again)
    assert sorted(path.name.removesuffix(".noarch.rpm") for path in (again.out / "packages").iterdir()) == found
    lib = next(one for one in lock.read(tmp_path / "lock/out" / lock.NAME) if one.name == "lib")
    pooled = tmp_path / f"fetch/pool/{lib.sha256}.rpm"
    pooled.unlink()  # its other names are whole
    pooled.write_bytes(b"x" * lib.size)
    with pytest.raises(NoSource, match=r"tree\.iso: no such file or folder"):
        fetch.build(job(tmp_path / "damaged", PARAMS, given, pool=tmp_path / "fetch/pool"))
    with serving(suite.root) as (url, asked):
        give("tiny", [url])
        fetch.build(job(tmp_path / "mended", PARAMS, given, pool=tmp_path / "fetch/pool"))
    assert [path for path in asked if path.endswith(".rpm")] == ["/4/os/Packages/lib-1-1.noarch.rpm"]


def test_one_repository_stands_for_all(suite: Suite, tmp_path: Path) -> None:
    one = (["base"], ["app-1-1", "lib-1-1"])
    assert brought(tmp_path / "folder", suite.root / "4/os") == one
    assert brought(tmp_path / "image", image(suite.root / "4/os", tmp_path / "a disc.iso")) == one
    with serving(suite.root / "4/os") as (url, _):
        assert brought(tmp_path / "web", url) == one


def test_a_tree_that_lacks_a_repository_is_no_heap_of_packages(suite: Suite, tmp_path: Path) -> None:
    """Its other releases lie there as well, and metadata that may be signed."""
    lacking = tmp_path / "tree"
    shutil.copytree(suite.root / "4/updates", lacking / "5/updates")
    for number, place in enumerate((lacking, image(lacking, tmp_path / "tree.iso"))):
        with pytest.raises(BuildError, match="no place has the repository base of tiny"):
            brought(tmp_path / str(number), place)


def test_packages_without_metadata(packages: Path, suite: Suite, tmp_path: Path) -> None:
    one = (["base"], ["app-1-1", "lib-1-1"])
    assert brought(tmp_path / "folder", packages) == one
    assert brought(tmp_path / "image", image(packages, tmp_path / "disc.iso")) == one
    for name in ("primary", "filelists"):
        found = [(tmp_path / place / "index/out/base" / name).read_bytes() for place in ("folder", "image")]
        assert found[0] == found[1], "wherever they lie"


def test_metadata_that_we_make_are_those_of_createrepo(suite: Suite, packages: Path, tmp_path: Path) -> None:
    """The same packages are chosen as by what a mirror has, file for file."""
    brought(tmp_path / "ours", packages)
    brought(tmp_path / "theirs", suite.root / "4/os")
    ours, theirs = (lock.read(tmp_path / place / "lock/out" / lock.NAME) for place in ("ours", "theirs"))
    assert [(one.name, one.evr, one.sha256, one.size) for one in ours] == [
        (one.name, one.evr, one.sha256, one.size) for one in theirs
    ]


def test_several_places_in_their_order(suite: Suite, packages: Path, tmp_path: Path) -> None:
    """A disc with the base, and updates from elsewhere; and packages on two discs."""
    updates = tmp_path / "updates"
    shutil.copytree(suite.root / "4/updates", updates / "4/updates")
    disc = image(suite.root / "4/os", tmp_path / "disc.iso")
    with serving(updates) as (url, asked):
        assert brought(tmp_path / "disc", disc, url) == (["base", "updates"], ["app-2-1", "lib-1-1"])
        assert [path for path in asked if path.endswith(".rpm")] == ["/4/updates/Packages/app-2-1.noarch.rpm"]
    first, second = image(packages / "RPMS/a", tmp_path / "1.iso"), tmp_path / "second"
    second.mkdir()
    shutil.copy(packages / "RPMS/lib-1-1.noarch.rpm", second)
    assert brought(tmp_path / "two", first, second) == (["base"], ["app-1-1", "lib-1-1"])


def test_places_that_are_none(tmp_path: Path, packages: Path) -> None:
    empty, text = tmp_path / "empty", tmp_path / "text.iso"
    empty.mkdir()
    text.write_text("no image")
    with pytest.raises(NoSource, match="gone: no such file or folder"):
        brought(tmp_path / "1", tmp_path / "gone")
    with pytest.raises(BuildError, match=r"text\.iso is no image that can be read"):
        brought(tmp_path / "2", text)
    with pytest.raises(BuildError, match="no place has the repository base of tiny") as caught:
        brought(tmp_path / "3", empty)
    assert caught.value.tail.splitlines() == [
        f"{empty.as_uri()}/4/os/repodata/repomd.xml: no such file",
        f"{empty.as_uri()}/repodata/repomd.xml: no such file",
    ]
    broken = Path(shutil.copytree(packages, tmp_path / "broken"))
    (broken / "RPMS/cut-1-1.noarch.rpm").write_bytes((broken / "RPMS/lib-1-1.noarch.rpm").read_bytes()[:300])
    with pytest.raises(BuildError, match=r"RPMS/cut-1-1\.noarch\.rpm is no package that can be read"):
        brought(tmp_path / "4", broken)


def test_an_image_with_links_shows_no_file_of_ours(suite: Suite, tmp_path: Path) -> None:
    """Neither as metadata nor as a package, though what lies there would fit."""
    disc = tmp_path / "disc"
    shutil.copytree(suite.root / "4/os", disc)
    primary, package = disc / "repodata/primary.xml.gz", disc / "Packages/lib-1-1.noarch.rpm"
    package.unlink()
    package.symlink_to(suite.root / "4/os/Packages/lib-1-1.noarch.rpm")
    with pytest.raises(BuildError, match=r"lib-1-1\.noarch\.rpm: no such file"):
        brought(tmp_path / "package", image(disc, tmp_path / "package.iso"))
    primary.unlink()
    primary.symlink_to(suite.root / "4/os/repodata/primary.xml.gz")
    with pytest.raises(BuildError, match=r"primary\.xml\.gz: no such file"):
        brought(tmp_path / "metadata", image(disc, tmp_path / "metadata.iso"))


@pytest.mark.parametrize("above", ["absolute", "relative"])
def test_an_archive_that_names_files_of_ours(packages: Path, tmp_path: Path, above: str) -> None:
    """They are neither read nor removed; it would be taken for an image, as bsdtar(1) reads it."""
    ours = tmp_path / "ours/lib-1-1.noarch.rpm"
    ours.parent.mkdir()
    shutil.copy(packages / "RPMS/lib-1-1.noarch.rpm", ours)
    name = str(ours) if above == "absolute" else f"./../../../../../{ours.relative_to(tmp_path)}"
    evil = tmp_path / "evil.tar"
    with tarfile.open(evil, "w") as archive:
        archive.add(packages / "RPMS/a/app-1-1.noarch.rpm", "app-1-1.noarch.rpm")
        member = archive.gettarinfo(ours)
        member.name = name
        archive.addfile(member, io.BytesIO(ours.read_bytes()))
    with pytest.raises(BuildError, match="do not go together"):  # app requires what is ours alone
        brought(tmp_path / "made", evil)
    assert ours.exists()
    assert Image(evil, "a test", Connections(), tmp_path / "unpacked").packages() == ["app-1-1.noarch.rpm"]


def test_names_that_mean_something_else(packages: Path, tmp_path: Path) -> None:
    """To a program that gets them, or to nobody at all."""
    odd = Path(shutil.copytree(packages, tmp_path / "odd"))
    (odd / "RPMS/a").rename(odd / "RPMS/[a]*")
    for number, place in enumerate((odd, image(odd, tmp_path / "odd.iso"))):
        with pytest.raises(BuildError, match=r"its file is said to be 'RPMS/\[a\]\*/app-1-1"):
            brought(tmp_path / str(number), place)
    (odd / "RPMS/[a]*").rename(os.fsdecode(os.fsencode(odd / "RPMS") + b"/\xff"))
    with pytest.raises(BuildError, match="is no package that can be read"):
        brought(tmp_path / "bytes", odd)
