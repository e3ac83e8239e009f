"""What OPKGs bring to a machine: files of the right side, modes, scripts at their phase, names of older generations."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import kept
from pipeline.errors import BuildError, CommandError
from pipeline.kept import Kept
from pipeline.opkgs import install
from pipeline.rootfs import RootFs
from pipeline.run import Completed

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


class Sandbox:
    """Stands in for the chroot: remembers what ran, and what was there at that moment."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, str]] = []
        self.fails = False

    def __call__(self, root: Path, argv: Sequence[str], *, env: Mapping[str, str], log: Path, **_: Any) -> Completed:
        assert os.access(root / argv[0].lstrip("/"), os.X_OK)
        self.ran.append((argv[0], env["OSCAR_PACKAGE_HOME"]))
        if self.fails:
            raise CommandError("exit status 3: x", log=log, tail="no such thing")
        return Completed(tuple(argv), 0, "", "")


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    stand_in = Sandbox()
    monkeypatch.setattr(install, "chroot_run", stand_in)
    return stand_in


class Workplace:
    """A recipes folder with one OPKG, and a root to bring it to."""

    def __init__(self, folder: Path) -> None:
        self.recipes = folder / "recipes"
        self.root = folder / "root"
        self.root.mkdir()
        self.log = folder / "log"
        self.files: dict[str, Kept] = {}

    def add(self, path: str, text: str = "", mode: int = 0o644) -> None:
        target = self.recipes / "opkgs/tool" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)
        self.note(path)

    def note(self, *paths: str) -> None:
        """Say that the plan keeps these paths of the OPKG."""
        for path in paths:
            self.files[f"opkgs/tool/{path}"] = kept.of(self.recipes, f"opkgs/tool/{path}")

    def apply(self, side: str) -> None:
        with RootFs(self.root) as root:
            if side == "head":
                install.bring(root, "tool", self.recipes, self.files)
            install.furnish(root, "tool", self.recipes, self.files, side, self.log)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_the_head_node_gets_its_files_and_keeps_the_package(place: Workplace, sandbox: Sandbox) -> None:
    place.add("config.xml", "<oscar/>")
    place.add("files/common/etc/tool.conf", "common")
    place.add("files/server/etc/tool.conf", "server")
    place.add("files/client/etc/client.conf")
    place.add("files/server/usr/local/bin/tool", mode=0o744)
    place.add("scripts/server-post-install")
    place.add("testing/test_root")
    place.apply("head")
    home = place.root / "usr/lib/oscar/packages/tool"
    assert (place.root / "etc/tool.conf").read_text() == "server"
    assert not (place.root / "etc/client.conf").exists()
    assert (place.root / "etc/tool.conf").stat().st_mode & 0o777 == 0o644
    assert (place.root / "usr/local/bin/tool").stat().st_mode & 0o777 == 0o755
    assert (home / "testing/test_root").stat().st_mode & 0o777 == 0o755
    assert (home / "config.xml").exists()
    assert sandbox.ran == [("/usr/lib/oscar/packages/tool/scripts/server-post-install", "/usr/lib/oscar/packages/tool")]


def test_a_compute_node_has_the_package_only_while_its_script_runs(place: Workplace, sandbox: Sandbox) -> None:
    place.add("files/common/etc/tool.conf", "common")
    place.add("files/client/etc/client.conf", "client")
    place.add("scripts/client-post-install")
    place.apply("compute")
    assert len(sandbox.ran) == 1
    assert not (place.root / "usr/lib/oscar").exists()
    assert (place.root / "etc/tool.conf").read_text() == "common"
    assert (place.root / "etc/client.conf").read_text() == "client"


@pytest.mark.parametrize(
    ("side", "older", "present"),
    [
        ("head", "post_server_install", "server-post-install"),
        ("head", "post_server_rpm_install", "server-post-install"),
        ("compute", "post_client_rpm_install", "client-post-install"),
        ("compute", "post_rpm_install", "client-post-install"),
    ],
)
def test_scripts_of_older_generations_run(
    place: Workplace, sandbox: Sandbox, side: str, older: str, present: str
) -> None:
    place.add(f"scripts/{older}")
    place.apply(side)
    assert [script.rpartition("/")[2] for script, _ in sandbox.ran] == [present]


def test_later_phases_are_found_under_their_present_names(place: Workplace, sandbox: Sandbox) -> None:
    place.add("scripts/post_install", "after deployment")
    place.add("scripts/post_clients", "after definition")
    place.apply("head")
    scripts = place.root / "usr/lib/oscar/packages/tool/scripts"
    assert (scripts / "api-post-deploy").read_text() == "after deployment"
    assert (scripts / "api-post-clientdef").read_text() == "after definition"


def test_a_failing_script_names_package_phase_and_last_lines(place: Workplace, sandbox: Sandbox) -> None:
    place.add("scripts/client-post-install")
    sandbox.fails = True
    with pytest.raises(BuildError) as caught:
        place.apply("compute")
    text = caught.value.render()
    assert "OPKG tool" in text
    assert "client-post-install" in text
    assert "no such thing" in text
    assert not (place.root / "usr/lib/oscar").exists()


def test_a_file_replaces_the_link_that_a_package_left(place: Workplace, sandbox: Sandbox, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (place.root / "etc").mkdir()
    (place.root / "etc/tool.conf").symlink_to(outside)
    place.add("files/common/etc/tool.conf", "ours")
    place.apply("head")
    assert (place.root / "etc/tool.conf").read_text() == "ours"
    assert outside.read_text() == "untouched"


@pytest.mark.parametrize(
    ("there", "path", "words"),
    [
        ("usr/share/doc/tool", "files/common/usr/share/doc", "there is a folder"),
        ("etc/passwd", "files/common/etc/passwd/more", "a file stands where it needs a folder"),
    ],
)
def test_a_file_that_does_not_fit_what_packages_made_is_named(
    place: Workplace, sandbox: Sandbox, there: str, path: str, words: str
) -> None:
    (place.root / there).parent.mkdir(parents=True)
    (place.root / there).touch()
    place.add(path)
    with pytest.raises(BuildError, match=words) as caught:
        place.apply("head")
    assert f"opkgs/tool/{path}" in caught.value.message


def test_modes_that_were_meant_arrive_and_folders_of_others_keep_theirs(place: Workplace, sandbox: Sandbox) -> None:
    (place.root / "root").mkdir(mode=0o700)
    (place.root / "etc").mkdir()
    (place.root / "etc").chmod(0o755)
    for path, mode in {
        "files/common/etc/key": 0o600,
        "files/common/usr/bin/su": 0o4755,
        "data/key": 0o640,
        "files/common/root/x": 0o644,
    }.items():
        place.add(path, "secret", mode)
    for path, mode in {
        "files/common/etc": 0o700,
        "files/common/root": 0o755,
        "files/common/srv/own": 0o2770,
        "files/common/var/spool/tool": 0o755,
        "data/empty": 0o1777,
    }.items():
        (place.recipes / "opkgs/tool" / path).mkdir(parents=True, exist_ok=True)
        (place.recipes / "opkgs/tool" / path).chmod(mode)
        place.note(path)
    place.apply("head")
    home = "usr/lib/oscar/packages/tool"
    assert {
        path: (place.root / path).stat().st_mode & 0o7777
        for path in (
            "etc",
            "etc/key",
            "root",
            "root/x",
            "srv",
            "srv/own",
            "usr/bin/su",
            "var/spool",
            "var/spool/tool",
            f"{home}/data/key",
            f"{home}/data/empty",
        )
    } == {
        "etc": 0o755,
        "etc/key": 0o600,
        "root": 0o700,
        "root/x": 0o644,
        "srv": 0o755,
        "srv/own": 0o2770,
        "usr/bin/su": 0o4755,
        "var/spool": 0o755,
        "var/spool/tool": 0o755,
        f"{home}/data/key": 0o640,
        f"{home}/data/empty": 0o1777,
    }


def test_a_folder_does_not_take_the_place_of_a_file(place: Workplace, sandbox: Sandbox) -> None:
    (place.root / "etc").mkdir()
    (place.root / "etc/tool").touch()
    (place.recipes / "opkgs/tool/files/common/etc/tool").mkdir(parents=True)
    place.note("files/common/etc/tool")
    with pytest.raises(BuildError, match=r"files/common/etc/tool: it cannot be put at /etc/tool: a file stands"):
        place.apply("head")


def test_a_script_that_is_a_link_is_what_it_leads_to_on_both_sides(place: Workplace, sandbox: Sandbox) -> None:
    place.add("scripts/server-post-install", "#!/bin/sh\necho both\n", 0o755)
    (place.root / "bin").mkdir()
    (place.root / "bin/sh").touch()
    (place.recipes / "opkgs/tool/scripts/client-post-install").symlink_to("server-post-install")
    place.note("scripts/client-post-install")
    del place.files["opkgs/tool/scripts/server-post-install"]
    place.apply("compute")
    assert [script.rpartition("/")[2] for script, _ in sandbox.ran] == ["client-post-install"]


@pytest.mark.parametrize(
    ("first", "missing"),
    [
        ("#!/usr/bin/python3 -u", "/usr/bin/python3"),
        ("#! /usr/bin/env python3", "python3"),
        ("#!/usr/bin/env -S python3 -u", "/usr/bin/env"),
        ("#!/bin/sh", ""),
        ("#!/usr/bin/env sh", ""),
        ("\x7fELF", ""),
    ],
)
def test_a_phase_whose_interpreter_is_missing_is_not_begun(
    place: Workplace, sandbox: Sandbox, first: str, missing: str
) -> None:
    (place.root / "usr/bin").mkdir(parents=True)
    (place.root / "bin").symlink_to("usr/bin")
    (place.root / "usr/bin/dash").touch()
    (place.root / "usr/bin/sh").symlink_to("/bin/dash")  # absolute, in the root
    place.add("scripts/client-post-install", f"{first}\n")
    if not missing:
        place.apply("compute")
        assert len(sandbox.ran) == 1
        return
    with pytest.raises(BuildError) as caught:
        place.apply("compute")
    assert caught.value.message == (
        "OPKG tool: scripts/client-post-install cannot be started on compute nodes: its "
        f"interpreter {missing} is not there"
    )
    assert "recipes/opkgs/tool/config.xml, in clientDeps" in caught.value.hint
    assert sandbox.ran == [] and not (place.root / "usr/lib/oscar").exists()


def test_what_runs_later_must_be_startable_too(place: Workplace, sandbox: Sandbox) -> None:
    for name in ("scripts/post_install", "scripts/post_clients", "testing/test_user", "scripts/api-post-image"):
        place.add(name, "#!/usr/bin/perl\n", 0o755)
    place.apply("head")
    later = install._run_later("tool", place.files)
    assert later == [
        "scripts/api-post-image",
        "scripts/api-post-clientdef",
        "scripts/api-post-deploy",
        "testing/test_user",
    ]
    with RootFs(place.root) as root:
        for script in later:
            with pytest.raises(
                BuildError,
                match=f"OPKG tool: {script} cannot be started on the head node: its "
                "interpreter /usr/bin/perl is not there",
            ):
                install._require_startable(root, "tool", script, "head")


def test_a_phase_that_something_has_taken_away_is_missed(
    place: Workplace, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.add("scripts/server-post-install", "#!/bin/sh\n", 0o755)
    monkeypatch.setattr(install, "_name_phases", lambda root, folder: root.remove(folder))
    with pytest.raises(BuildError, match=r"scripts/server-post-install should run on the head node and is not there"):
        place.apply("head")


def test_our_scripts_are_shell_that_parses() -> None:
    for script in RECIPES.glob("opkgs/*/*/*"):
        if script.parent.name in ("scripts", "testing") and script.is_file() and script.suffix != ".c":
            shell = script.read_text().partition("\n")[0].removeprefix("#!")
            subprocess.run([shell, "-n", script], check=True)
