"""A distribution of RPM packages by its recipe: from a mirror to a root, by the real commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import rpmsuite
from tests.boot import checkout
from tests.boot.checkout import Checkout
from tests.packages.rpm.test_places import image
from tests.rpmsuite import Suite

RECIPE = """family = "rpm"
mirror = "{}"
repositories = [{{ name = "base", path = "base" }}]
kernel = "kernel"
compat = {{ name = "tiny", version = "1" }}
[packages]
base = ["filesystem", "setup", "busybox", "rpm"]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    made = rpmsuite.make(tmp_path_factory.mktemp("suite"))
    made.base()
    made.rpm("kernel", "1", files={"/boot/vmlinuz-1": "no kernel"})
    made.publish()
    return made


@pytest.fixture(scope="module")
def project(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    folder = tmp_path_factory.mktemp("distro") / "project"
    made = checkout.copy(folder, folder / "artifacts")
    (folder / "recipes/distros/tiny.toml").write_text(RECIPE.format(suite.root))
    yield made
    made.remove()


def test_a_root_is_made_of_its_packages_and_not_made_again(project: Checkout) -> None:
    run = project.doit("root:tiny")
    assert run.status == 0, run.output
    assert run.built == {"index:tiny", "lock:tiny", "fetch:tiny", "root:tiny"}
    locked = json.loads((project.own / "tiny/lock/files/lock.json").read_text())["packages"]
    assert {one["name"] for one in locked} == {"filesystem", "setup", "busybox", "rpm", "kernel"}
    assert project.doit("root:tiny").built == set()


def test_a_newer_package_is_seen_when_the_index_is_updated(project: Checkout, suite: Suite) -> None:
    assert project.doit("root:tiny").status == 0
    suite.rpm("setup", "3", files={"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "/etc/group": "root:x:0:\n"})
    suite.publish()
    assert project.doit("root:tiny").built == set()
    updated = project.run(project.command("update", "tiny"))
    assert updated.returncode == 0, updated.stderr
    run = project.doit("root:tiny")
    assert run.status == 0 and "root:tiny" in run.built, run.output
    why = project.run(project.command("why", "root:tiny"))
    assert "up to date" in why.stdout


def test_an_update_in_another_checkout_of_the_store(project: Checkout, tmp_path: Path) -> None:
    """What it would take is another one's, to which it has no link yet."""
    assert project.doit("index:tiny").status == 0
    other = checkout.copy(tmp_path / "other", project.artifacts)
    (other.folder / "recipes/distros/tiny.toml").write_bytes(
        (project.folder / "recipes/distros/tiny.toml").read_bytes()
    )
    try:
        assert other.run(other.command("update", "tiny")).returncode == 0
        assert other.doit("index:tiny").built == {"index:tiny"}
    finally:
        other.remove()


def test_a_package_that_is_not_there_is_told(project: Checkout) -> None:
    file = project.folder / "recipes/distros/tiny.toml"
    before = file.read_text()
    file.write_text(before.replace('"busybox"', '"busybocks"'))
    try:
        run = project.doit("lock:tiny")
        assert run.status == 1 and "there is no package busybocks (distribution tiny)" in run.output, run.output
        assert "Traceback" not in run.output
    finally:
        file.write_text(before)


def test_nobody_has_said_where(project: Checkout) -> None:
    file = project.folder / "recipes/distros/tiny.toml"
    file.write_text(Path(file).read_text().replace("mirror =", "#mirror ="))
    (project.folder / "recipes/distros/other.toml").write_text(file.read_text())
    run = project.doit("index:other")
    assert run.status == 1
    assert "nobody has said where the packages of other are" in run.output
    for told in ("XEN_OSCAR_MIRROR_OTHER=PATH_OR_URL", "--mirror other=", "mirrors.toml", "are all here: none"):
        assert told in run.output, told


def test_a_mirror_is_given_with_the_command(project: Checkout, suite: Suite) -> None:
    recipe = project.folder / "recipes/distros/given.toml"
    recipe.write_text(RECIPE.format("file:///nowhere"))
    for words, status, told in (
        (["index:given"], 1, "/nowhere: no such file or folder"),
        (["index:given", "--mirror", "given"], 1, "--mirror NAME=FOLDER_OR_URL"),
        (["--mirror", "givn=/x", "index:given"], 3, "did you mean given"),
    ):
        run = project.doit(*words)
        assert run.status == status and told in run.output and "Traceback" not in run.output, run.output
    run = project.doit("index:given", f"--mirror=given={suite.root}")
    assert run.status == 0 and run.built == {"index:given"}, run.output


def test_an_image_is_given_with_the_command(project: Checkout, suite: Suite, tmp_path: Path) -> None:
    """Of packages without metadata, on a disc that only root may read."""
    recipe = project.folder / "recipes/distros/disc.toml"
    recipe.write_text(RECIPE.format(""))
    disc = image(suite.root / "base/Packages", tmp_path / "a disc.iso")
    disc.chmod(0o600)
    run = project.doit("fetch:disc", f"--mirror=disc={disc}")
    assert run.status == 0 and run.built == {"index:disc", "lock:disc", "fetch:disc"}, run.output
    assert len(list((project.own / "disc/fetch/files/packages").iterdir())) == 5


def test_a_mirror_is_given_in_a_file(project: Checkout, suite: Suite) -> None:
    """The command goes before it; and a mistake in it stops those alone who would read it."""
    (project.folder / "recipes/distros/noted.toml").write_text(RECIPE.format("file:///nowhere"))
    settings = project.folder / "mirrors.toml"
    settings.write_text('noted = "/nowhere"\n')
    try:
        run = project.doit("index:noted")
        assert run.status == 1 and "/nowhere: no such file or folder" in run.output, run.output
        run = project.doit("index:noted", f"--mirror=noted={suite.root}")
        assert run.status == 0, run.output
        assert project.run(project.command("update", "noted")).returncode == 0
        settings.write_text('nted = "/x"\n')
        run = project.doit("index:noted")
        assert run.status == 1 and "mirrors.toml:1: nted: no such distribution" in run.output, run.output
        settings.write_text(f'tiny = 5\nnoted = ["/nowhere", "{suite.root}"]\n')
        run = project.doit("index:noted")
        assert run.status == 0 and run.built == {"index:noted"}, run.output
    finally:
        settings.unlink()
