"""An OPKG's folder: what is wrong in it, and what of it matters to which side."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests import opkgfolder
from pipeline.manifests.opkg import Script, Side
from tests.manifests.conftest import opkg_text


def folder(tmp_path: Path, *scripts: str, **texts: str) -> Path:
    """An OPKG; scripts are executable."""
    home = tmp_path / "opkgs" / "app"
    for name, text in {"config.xml": opkg_text("app"), **dict.fromkeys(scripts, "#!/bin/sh\n"), **texts}.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if name.startswith(("scripts", "testing")) else 0o644)
    return home


def message(home: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        opkgfolder.load(home)
    return caught.value.message.replace(f"{home}/", "")


def paths(home: Path, side: Side) -> list[str]:
    return [path.removeprefix("opkgs/app/") for path, _ in opkgfolder.content(opkgfolder.load(home), side)]


def test_scripts_and_tests(tmp_path: Path) -> None:
    found = opkgfolder.load(folder(tmp_path, "scripts/server-post-install", "scripts/post_install", "testing/test_root",
                                   "testing/hello.c"))
    assert found.scripts == (Script("api-post-deploy", "post_install"),
                             Script("server-post-install", "server-post-install"))
    assert found.script("api-post-deploy") == "scripts/post_install"
    assert found.script("client-post-install") is None
    assert found.tests == ("test_root",)


def test_of_two_old_names_of_a_phase_the_first_counts(tmp_path: Path) -> None:
    found = opkgfolder.load(folder(tmp_path, "scripts/post_rpm_install", "scripts/post_client_rpm_install"))
    assert found.scripts == (Script("client-post-install", "post_client_rpm_install"),)


def test_mistakes(tmp_path: Path) -> None:
    home = folder(tmp_path, "scripts/server-post-instal", "scripts/nonsense", "scripts/post_install",
                  "scripts/api-post-deploy", "testing/test-root", "files/severs/etc/x", "script/x")
    (home / "scripts" / "api-post-deploy").chmod(0o644)
    (home / "config.xml").write_text("<oscar>")
    told = message(home).splitlines()
    assert told[0].startswith("config.xml:1: this is not XML")
    assert told[1].startswith("files/severs:1: not for any machine; expected a folder, one of client, common, server;")
    assert told[1].endswith('did you mean "server"?')
    assert told[2] == 'script:1: this folder is not read; did you mean "scripts"?'
    assert told[3].startswith("scripts/api-post-deploy:1: not executable; expected: chmod +x ")
    assert told[4].startswith("scripts/nonsense:1: no phase has that name and no script calls it; expected one of api-")
    assert told[5] == 'scripts/post_install:1: the same phase as "api-post-deploy"; expected one'
    assert told[6] == ("scripts/server-post-instal:1: no phase has that name and no script calls it; "
                       'did you mean "server-post-install"?')
    assert told[7] == 'testing/test-root:1: not run as a test; did you mean "test_root"?'
    assert len(told) == 8


def test_each_side_has_its_own_content(tmp_path: Path) -> None:
    calls = {"scripts/client-post-install": "#!/bin/sh\n. ./both\n",
             "scripts/server-post-install": ". ./both; . ./mine"}
    home = folder(tmp_path, "scripts/both", "scripts/mine", "scripts/api-post-deploy", "testing/test_user",
                  "files/server/etc/s", "files/client/etc/c", "files/common/etc/b", "README", **calls)
    both = ["files/common/etc/b", "scripts/both", "scripts/client-post-install"]
    assert paths(home, "client") == sorted([*both, "files/client/etc/c"])
    assert paths(home, "server") == sorted([
        *both, "config.xml", "files/server/etc/s", "scripts/api-post-deploy", "scripts/mine",
        "scripts/server-post-install", "testing/test_user"])


def test_content_changes_with_bytes_mode_and_target(tmp_path: Path) -> None:
    home = folder(tmp_path, "files/client/etc/a")
    file = home / "files/client/etc/a"
    opkg = opkgfolder.load(home)
    server = opkgfolder.content(opkg, "server")
    seen = [opkgfolder.content(opkg, "client")]
    file.chmod(0o755)
    seen.append(opkgfolder.content(opkg, "client"))
    file.write_text("other")
    seen.append(opkgfolder.content(opkg, "client"))
    file.unlink()
    file.symlink_to("nowhere")
    seen.append(opkgfolder.content(opkg, "client"))
    file.unlink()
    file.symlink_to("elsewhere")
    seen.append(opkgfolder.content(opkg, "client"))
    assert len(set(seen)) == len(seen)
    assert opkgfolder.content(opkg, "server") == server


def test_what_editors_leave_is_no_content(tmp_path: Path) -> None:
    home = folder(tmp_path, "files/client/a", "files/client/a~", "files/client/.a.swp", "scripts/#x#")
    assert paths(home, "client") == ["files/client/a"]


def test_links_to_folders_stay_links(tmp_path: Path) -> None:
    home = folder(tmp_path, "files/client/a/b")
    (home / "files/client/loop").symlink_to(".")
    assert paths(home, "client") == ["files/client/a/b", "files/client/loop"]


def test_special_files_are_refused(tmp_path: Path) -> None:
    home = folder(tmp_path, "files/client/a")
    os.mkfifo(home / "files/client/pipe")
    with pytest.raises(ManifestError, match="pipe:1: expected a file, a folder or a symbolic link"):
        paths(home, "client")
