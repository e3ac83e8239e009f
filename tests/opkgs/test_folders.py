"""An OPKG's folder: what is wrong in it, and what of it matters to which side."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.guests.guest import Init
from pipeline.opkgs import folders
from pipeline.opkgs.model import Script
from pipeline.opkgs.phases import Side
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
        folders.load(home)
    return caught.value.message.replace(f"{home}/", "")


def warnings(home: Path) -> list[str]:
    return [str(one).removeprefix(f"{home}/") for one in folders.load(home).warnings]


def paths(home: Path, side: Side, init: Init = "systemd") -> list[str]:
    return [path.removeprefix("opkgs/app/") for path, _ in folders.content(folders.load(home), side, init)]


def test_scripts_and_tests(tmp_path: Path) -> None:
    found = folders.load(
        folder(tmp_path, "scripts/server-post-install", "scripts/post_install", "testing/test_root", "testing/hello.c")
    )
    assert found.scripts == (
        Script("api-post-deploy", "post_install"),
        Script("server-post-install", "server-post-install"),
    )
    assert found.script("api-post-deploy") == "scripts/post_install"
    assert found.script("client-post-install") is None
    assert found.tests == ("test_root",)


def test_of_two_old_names_of_a_phase_the_first_counts(tmp_path: Path) -> None:
    found = folders.load(folder(tmp_path, "scripts/post_rpm_install", "scripts/post_client_rpm_install"))
    assert found.scripts == (Script("client-post-install", "post_client_rpm_install"),)


def test_mistakes(tmp_path: Path) -> None:
    home = folder(
        tmp_path,
        "scripts/server-post-instal",
        "scripts/post_install",
        "scripts/api-post-deploy",
        "testing/test-root",
        "files/severs/etc/x",
        "script/x",
    )
    (home / "scripts" / "api-post-deploy").chmod(0o644)
    (home / "config.xml").write_text("<oscar>")
    told = message(home).splitlines()
    assert told[0].startswith("config.xml:1: this is not XML")
    assert told[1].startswith("files/severs:1: not for any machine; expected a folder, one of client, common, server,")
    assert told[1].endswith('did you mean "server"?')
    assert told[2] == 'script:1: nothing in it is run or copied to a root; did you mean "scripts"?'
    assert told[3].startswith("scripts/api-post-deploy:1: not executable; expected: chmod +x ")
    assert told[4] == 'scripts/post_install:1: the same phase as "api-post-deploy"; expected one'
    assert told[5] == (
        "scripts/server-post-instal:1: no phase has that name and no script calls it; "
        'did you mean "server-post-install"?'
    )
    assert told[6] == 'testing/test-root:1: not run as a test; did you mean "test_root"?'
    assert len(told) == 7


def test_what_no_phase_runs_is_told_and_kept(tmp_path: Path) -> None:
    home = folder(
        tmp_path,
        "scripts/nonsense",
        "scripts/setup",
        "scripts/post_server_rpm_uninstall",
        "scripts/server-pre-uninstall",
        "scripts/api-post-image",
        "scripts/used",
        "scripts/.sh",
        **{"scripts/server-post-install": "#!/bin/sh\n./used\n"},
    )
    (home / "scripts/.sh").chmod(0o644)  # what nobody could start is not meant to be run
    assert warnings(home) == ["scripts/nonsense:1: not run: no phase has that name and no script calls it"]
    assert set(paths(home, "server")) >= {"scripts/nonsense", "scripts/setup", "scripts/.sh", "scripts/api-post-image"}


@pytest.mark.parametrize(
    ("beginning", "why"),
    [
        (b"#!/bin/sh\r\necho\r\n", "its first line ends in CR LF"),
        (b"#!/bin/sh -e\r\n", "its first line ends in CR LF"),
        (b"\xef\xbb\xbf#!/bin/sh\n", "a byte order mark stands before its first line"),
        (b"\xff\xfe#\0!\0/\0b\0", "a byte order mark stands before its first line"),
        (b"echo hello\n", "its first line names no interpreter"),
        (b"", "its first line names no interpreter"),
        (b"\n#!/bin/sh\n", "its first line names no interpreter"),
        (b"#!\n", "its first line names no interpreter by its whole path"),
        (b"#! sh\n", "its first line names no interpreter by its whole path"),
    ],
)
@pytest.mark.parametrize("place", ["scripts/post_server_install", "scripts/api-post-deploy", "testing/test_user"])
def test_scripts_that_no_kernel_starts_are_told_why(tmp_path: Path, place: str, beginning: bytes, why: str) -> None:
    home = folder(tmp_path, place)
    (home / place).write_bytes(beginning)
    assert message(home).startswith(f"{place}:1: it cannot be started: {why}")


@pytest.mark.parametrize(
    "beginning", [b"#!/bin/sh", b"#! /usr/bin/env python3\n", b"\x7fELF\2\1\1", b"#!/bin/sh -e\n\r\n"]
)
def test_scripts_that_a_kernel_starts(tmp_path: Path, beginning: bytes) -> None:
    home = folder(tmp_path, "scripts/server-post-install")
    (home / "scripts/server-post-install").write_bytes(beginning)
    assert folders.load(home).scripts


def test_a_phase_that_is_a_folder_is_none(tmp_path: Path) -> None:
    home = folder(tmp_path, "scripts/client-post-install/part")
    assert message(home) == "scripts/client-post-install:1: a folder; expected a script"


def test_each_side_has_its_own_content(tmp_path: Path) -> None:
    calls = {
        "scripts/client-post-install": "#!/bin/sh\n. ./both\n",
        "scripts/server-post-install": "#!/bin/sh\n. ./both; . ./mine",
    }
    home = folder(
        tmp_path,
        "scripts/both",
        "scripts/mine",
        "scripts/api-post-deploy",
        "testing/test_user",
        "files/server/etc/s",
        "files/client/etc/c",
        "files/common/etc/b",
        "README",
        **calls,
    )
    both = ["files/common/etc/b", "scripts/both", "scripts/client-post-install"]
    assert paths(home, "client") == sorted([*both, "files/client/etc/c"])
    assert paths(home, "server") == sorted(
        [
            *both,
            "README",
            "config.xml",
            "files/server/etc/s",
            "scripts/api-post-deploy",
            "scripts/mine",
            "scripts/server-post-install",
            "testing/test_user",
        ]
    )


def test_files_may_be_for_one_init(tmp_path: Path) -> None:
    trees = ("common", "common-systemd", "common-sysvinit", "client-sysvinit", "server-systemd")
    home = folder(tmp_path, **{f"files/{tree}/etc/{tree}": "x" for tree in trees})

    def trees_of(side: Side, init: Init) -> list[str]:
        return [path.split("/")[1] for path in paths(home, side, init) if path.startswith("files")]

    assert trees_of("client", "systemd") == ["common-systemd", "common"]
    assert trees_of("client", "sysvinit") == ["client-sysvinit", "common-sysvinit", "common"]
    assert trees_of("server", "systemd") == ["common-systemd", "common", "server-systemd"]
    (home / "files/common-sysvint").mkdir()
    assert 'did you mean "common-sysvinit"?' in message(home)


def test_the_compute_side_gets_all_that_its_scripts_mention(tmp_path: Path) -> None:
    client = "#!/bin/sh\n. ../parts/first; ls scripts; cp ../data/app.conf /etc; cat ../one.conf; . lib/common\n"
    home = folder(
        tmp_path,
        "scripts/lib/common",
        "scripts/lib/more",
        "scripts/other",
        "lib/too",
        "parts/first",
        "doc/deep/README",
        "data/app.conf",
        "data/more/deep",
        "VERSION",
        "one.conf",
        **{"scripts/client-post-install": client, "scripts/server-post-install": "#!/bin/sh\n./other\n"},
    )
    assert paths(home, "client") == sorted(
        [
            "scripts/client-post-install",
            "scripts/lib/common",
            "scripts/lib/more",
            "lib/too",
            "parts/first",
            "data/app.conf",
            "data/more/deep",
            "one.conf",
            "scripts/other",
        ]
    )  # `scripts` is mentioned: other may be called
    (home / "scripts/client-post-install").write_text("#!/bin/sh\n. lib/common\n")
    assert paths(home, "client") == ["lib/too", "scripts/client-post-install", "scripts/lib/common", "scripts/lib/more"]
    assert {"doc/deep/README", "VERSION", "data/more/deep", "lib/too"} <= set(paths(home, "server"))


def test_content_changes_with_bytes_mode_and_target(tmp_path: Path) -> None:
    home = folder(tmp_path, "files/client/etc/a")
    file = home / "files/client/etc/a"
    opkg = folders.load(home)
    server = folders.content(opkg, "server", "systemd")
    seen = [folders.content(opkg, "client", "systemd")]
    file.chmod(0o755)
    seen.append(folders.content(opkg, "client", "systemd"))
    file.write_text("other")
    seen.append(folders.content(opkg, "client", "systemd"))
    file.unlink()
    file.symlink_to("nowhere")
    seen.append(folders.content(opkg, "client", "systemd"))
    file.unlink()
    file.symlink_to("elsewhere")
    seen.append(folders.content(opkg, "client", "systemd"))
    assert len(set(seen)) == len(seen)
    assert folders.content(opkg, "server", "systemd") == server


def test_names_that_look_like_leftovers_are_kept_in_a_root_and_told_elsewhere(tmp_path: Path) -> None:
    home = folder(
        tmp_path,
        "files/client/a",
        "files/client/a~",
        "files/client/a.orig",
        "files/client/a.rej",
        "files/client/.a.swp",
        "files/client/.#a",
        "files/client/#a#",
        "files/client/#a",
        "scripts/x~",
        "testing/test_root.orig",
        "scripts/#x#",
    )
    assert paths(home, "client") == [
        "files/client/#a",
        "files/client/a",
        "files/client/a.orig",
        "files/client/a.rej",
        "files/client/a~",
    ]
    assert warnings(home) == [
        "files/client/#a#:1: left out: an editor has it while it is at work",
        "files/client/.#a:1: left out: an editor has it while it is at work",
        "files/client/.a.swp:1: left out: an editor has it while it is at work",
        "scripts/#x#:1: left out: an editor has it while it is at work",
        "scripts/x~:1: left out: what an editor or patch has left behind",
        "testing/test_root.orig:1: left out: what an editor or patch has left behind",
    ]


def test_of_other_folders_only_old_packages_are_left_out_and_told(tmp_path: Path) -> None:
    home = folder(
        tmp_path,
        "RPMS/a.rpm",
        "SRPMS/a.src.rpm",
        "distro/fc4-i386/a.rpm",
        "doc/a.tex",
        "templates/t",
        ".git/HEAD",
        ".configurator.values",
        "configurator.html",
        "html/i",
        "data/RPMS/kept",
    )
    assert paths(home, "server") == [
        ".configurator.values",
        "config.xml",
        "configurator.html",
        "data/RPMS/kept",
        "doc/a.tex",
        "html/i",
        "templates/t",
    ]
    assert [line.partition(";")[0] for line in warnings(home)] == [
        f"{name}:1: left out: packages come from the distribution, or from a cluster's packages"
        for name in ("RPMS", "SRPMS", "distro")
    ]
