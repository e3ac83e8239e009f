"""Links, special files and places that nothing stays at, in OPKGs as people keep them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.kept import Kept
from pipeline.opkgs import folders, tree
from pipeline.opkgs.phases import Side
from tests.manifests.conftest import opkg_text

SCRIPT = "#!/bin/sh\necho {}\n"
SIDES: tuple[Side, ...] = ("server", "client")


def write(home: Path, *scripts: str, **texts: str) -> Path:
    for name, text in {
        "config.xml": opkg_text(home.name),
        **{name: SCRIPT.format(name) for name in scripts},
        **texts,
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
        (home / name).chmod(0o755 if name.startswith("scripts") else 0o644)
    return home


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    (folder / "opkgs").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def home(recipes: Path) -> Path:
    return write(recipes / "opkgs/app", "scripts/server-post-install")


def content(home: Path, side: Side = "server") -> dict[str, Kept]:
    return {
        name.removeprefix(f"opkgs/{home.name}/"): Kept.parse(line)
        for name, line in folders.content(folders.load(home), side, "systemd")
    }


def link(path: Path, target: str | Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def test_a_phase_that_is_a_link_to_another_has_what_that_one_has(home: Path) -> None:
    link(home / "scripts/client-post-install", "server-post-install")
    for side in SIDES:
        found = content(home, side)
        assert found["scripts/client-post-install"] == content(home)["scripts/server-post-install"]
        assert found["scripts/client-post-install"].kind == "file"
    before = content(home, "client")
    (home / "scripts/server-post-install").write_text("#!/bin/sh\n# other\n")
    assert content(home, "client") != before


@pytest.mark.parametrize(
    "target",
    [
        "common-part",
        "./common-part",
        "../scripts/common-part",
        "../data/part",
        "lib/part",
        "../lib/one/part",
        "../testing/part",
    ],
)
def test_phases_that_are_links_to_helpers(home: Path, target: str) -> None:
    for phase in ("client-post-install", "api-post-deploy"):
        link(home / "scripts" / phase, target)
    place = home / "scripts" / target
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(SCRIPT.format("part"))
    place.chmod(0o755)
    opkg = folders.load(home)
    assert opkg.script("client-post-install") and opkg.script("api-post-deploy")
    assert opkg.warnings == ()
    assert content(home, "client")["scripts/client-post-install"].kind == "file"


def test_a_link_to_what_no_one_may_start_is_told_by_its_own_name(home: Path) -> None:
    (home / "scripts/part").write_text(SCRIPT.format("x"))
    (home / "scripts/part").chmod(0o644)
    link(home / "scripts/client-post-install", "part")
    with pytest.raises(ManifestError, match="scripts/client-post-install:1: not executable"):
        folders.load(home)


def test_scripts_are_shared_with_other_opkgs_and_with_the_folder_of_recipes(home: Path, recipes: Path) -> None:
    write(recipes / "opkgs/other", "scripts/server-post-install")
    write(recipes / "lib", **{"common.sh": "common"})
    link(home / "scripts/client-post-install", "../../other/scripts/server-post-install")
    link(home / "scripts/common.sh", "../../../lib/common.sh")
    link(home / "lib", recipes / "lib")
    found = content(home)
    assert found["scripts/common.sh"] == Kept("file", 0o755, found["lib/common.sh"].content)
    (recipes / "lib/common.sh").write_text("changed")
    assert content(home)["scripts/common.sh"] != found["scripts/common.sh"]


def test_an_opkg_lives_in_a_repository_of_its_own(recipes: Path, tmp_path: Path) -> None:
    texts = {"lib/part": "part", ".git/HEAD": "x", "lib/.git/HEAD": "x", "files/server/opt/.git/HEAD": "x"}
    real = write(tmp_path / "src/repository/app", "scripts/server-post-install", **texts)
    link(real / "scripts/part", "../lib/part")
    link(real / "data", "lib")
    home = link(recipes / "opkgs/app", real)
    assert set(content(home)) == {
        "config.xml",
        "files/server/opt/.git/HEAD",  # there it is for the root
        "lib/part",
        "data/part",
        "scripts/part",
        "scripts/server-post-install",
    }
    other = write(recipes / "opkgs/other", **{"config.xml": opkg_text("other")})
    link(other / "scripts/server-post-install", "../../app/scripts/server-post-install")  # by way of that link
    assert content(other)["scripts/server-post-install"] == content(home)["scripts/server-post-install"]


def test_a_repository_s_common_part_is_there_once_it_is_linked_to(recipes: Path, tmp_path: Path) -> None:
    real = write(tmp_path / "repository/opkgs/app", "scripts/server-post-install")
    write(tmp_path / "repository/lib", **{"common.sh": "common"})
    link(real / "scripts/common.sh", "../../../lib/common.sh")
    home = link(recipes / "opkgs/app", real)
    with pytest.raises(ManifestError, match=r"scripts/common\.sh:1: a link out of the recipes, to .*repository/lib/"):
        folders.load(home)
    link(recipes / "lib", tmp_path / "repository/lib")
    assert "scripts/common.sh" in content(home)


@pytest.mark.parametrize("place", ["scripts/x", "testing/x", "data/x", "scripts", "testing", "files", "files/common"])
@pytest.mark.parametrize(
    "target",
    [
        "/etc/hostname",
        "/etc",
        "/",
        "../../../../../../../../../../../etc/passwd",
        "OUTSIDE/secret",
        "OUTSIDE",
        "OUTSIDE/hop",
    ],
)
def test_a_link_out_of_the_recipes_is_refused(recipes: Path, tmp_path: Path, place: str, target: str) -> None:
    home = write(recipes / "opkgs/app")
    outside = tmp_path / "recipes-of-others"  # whose name begins alike
    outside.mkdir()
    (outside / "secret").write_text("secret")
    link(outside / "hop", "/etc/hostname")
    link(home / place, target.replace("OUTSIDE", str(outside)))
    with pytest.raises(ManifestError, match="a link out of the recipes, to /") as caught:
        folders.load(home)
    assert f"opkgs/app/{place}:1: " in caught.value.message


@pytest.mark.parametrize("place", ["scripts/server-post-install", "scripts/helper", "testing/data", "data"])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere", "a link to nowhere: No such file or directory"),
        ("/nowhere/at/all", "a link to /nowhere/at/all: No such file"),
        ("SELF", "a link that leads in a circle"),
        ("", ""),
    ],
)
def test_links_that_lead_nowhere_are_told(recipes: Path, place: str, target: str, words: str) -> None:
    home = write(recipes / "opkgs/app")
    link(home / place, target.replace("SELF", Path(place).name) or "there")
    if not words:  # what makes the difference
        (home / place).with_name("there").write_text(SCRIPT.format("x"))
        (home / place).with_name("there").chmod(0o755)
        folders.load(home)
        return
    with pytest.raises(ManifestError) as caught:
        folders.load(home)
    assert f"opkgs/app/{place}:1: {words}" in caught.value.message


@pytest.mark.parametrize("place", ["scripts/up", "data/deep/up", "testing/up", "up"])
@pytest.mark.parametrize("target", ["", "opkgs", "opkgs/app"])
def test_a_folder_that_stands_in_itself_is_told(home: Path, recipes: Path, place: str, target: str) -> None:
    link(home / place, recipes / target)
    with pytest.raises(ManifestError, match="a link to a folder that it stands in itself"):
        folders.load(home)
    (home / place).unlink()
    link(home / place, ".")
    with pytest.raises(ManifestError, match=f"{place}:1: a link to a folder that it stands in itself"):
        folders.load(home)


def test_links_that_multiply_a_few_files_have_an_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_MOST", 1000)
    for level in range(15):  # of links on one way Linux follows forty, and fewer if it has to begin again
        for name in ("a", "b"):
            link(home / f"data/{level}" / name, f"../{level + 1}")
    (home / "data/15").mkdir()
    with pytest.raises(ManifestError, match="opkgs/app:1: more than 1000 files; do links"):
        folders.load(home)


def test_links_of_a_root_are_left_as_they_are(home: Path) -> None:
    targets = {
        "abs": "/etc/shadow",
        "up": "../../../../../../../etc/shadow",
        "folder": "/etc",
        "self": "self",
        "dot": ".",
        "dangling": "nowhere",
    }
    for name, target in targets.items():
        link(home / "files/common/srv" / name, target)
    found = content(home)
    for name, target in targets.items():
        assert found[f"files/common/srv/{name}"] == Kept("link", 0o777, target)


def test_a_side_s_files_may_be_another_side_s(home: Path) -> None:
    write(home, **{"files/server/etc/conf": "x"})
    link(home / "files/client", "server")
    assert content(home, "client") == {"files/client/etc/conf": content(home)["files/server/etc/conf"]}
    (home / "files/server/etc/conf").write_text("other")
    assert content(home, "client") == {"files/client/etc/conf": content(home)["files/server/etc/conf"]}


@pytest.mark.parametrize("place", ["files/common/srv/x", "scripts/x", "testing/x", "data/x", "x"])
def test_special_files_are_refused(home: Path, place: str) -> None:
    path = home / place
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(ManifestError, match=f"{place}:1: a named pipe; expected a file, a folder or a symbolic link"):
        folders.load(home)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        listener.bind("x")
        os.chdir(here)
        with pytest.raises(ManifestError, match=f"{place}:1: a socket; expected"):
            folders.load(home)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("run/app/a", "a running machine has a file system of its own there"),
        ("tmp/a", "a running machine has"),
        ("dev/a", "a running machine has"),
        ("proc/a", "a running machine has"),
        ("sys/a", "a running machine has"),
        ("var/tmp/a", "a running machine has"),
        ("var/run/a", "a running machine has"),
        ("var/lock/a", "a running machine has"),
        ("root/.cache/a", "that is made anew"),
        ("etc/ssh/ssh_host_rsa_key", "that is made anew"),
        ("var/cache/apt/a", "that is made anew"),
        ("var/log/app/head.log", "logs are made anew"),
        ("etc/passwd-", "that is made anew"),
    ],
)
@pytest.mark.parametrize("side", ["server", "client", "common"])
def test_files_that_no_root_keeps_are_told(home: Path, side: str, path: str, why: str) -> None:
    write(home, **{f"files/{side}/{path}": "x"})
    with pytest.raises(ManifestError, match=f"opkgs/app/files/{side}/{path}:1: no root keeps it: {why}"):
        folders.load(home)


@pytest.mark.parametrize(
    "path",
    [
        "var/log/app/head.log",
        "var/log/app",
        "var/spool/app",
        "opt/run/a",
        "srv/tmp/a",
        "var/lib/dpkg/locks",
        "run",
        "tmp",
    ],
)
def test_what_is_near_them_is_kept(home: Path, path: str) -> None:
    place = home / "files/common" / path
    if path.startswith(("opt", "srv")) or path.endswith((".log", "locks")):
        write(home, **{f"files/common/{path}": "" if path.endswith(".log") else "x"})
    else:
        place.mkdir(parents=True)
    assert f"files/common/{path}" in content(home)


def test_empty_folders_of_a_place_that_nothing_stays_at_are_told_too(home: Path) -> None:
    (home / "files/common/run/app").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"files/common/run/app:1: no root keeps it: .*tmpfiles\.d"):
        folders.load(home)


def test_attributes_that_get_lost_are_told(home: Path) -> None:
    write(home, **{"files/common/usr/bin/a": "x"})
    file = home / "files/common/usr/bin/a"
    try:
        # cap_net_raw=ep, version 2
        os.setxattr(file, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    except OSError:
        pytest.skip("no file system for that, or not root")
    os.setxattr(file, "user.xdg.origin.url", b"of somebody's browser")
    os.setxattr(file, "user.note", b"of somebody")
    assert sorted(str(one).partition("/bin/")[2] for one in folders.load(home).warnings) == [
        "a:1: its security.capability is not kept; expected a script that gives it: setcap",
        "a:1: its user.note is not kept; expected a script that gives it: setfattr",
    ]


def test_an_opkg_that_is_no_folder(recipes: Path) -> None:
    link(recipes / "opkgs/away", "/nowhere/away")
    with pytest.raises(ManifestError, match=r"^opkgs/away:1: a link to /nowhere/away: No such file or directory$"):
        folders.load(recipes / "opkgs/away")
    (recipes / "opkgs/file").write_text("")
    with pytest.raises(ManifestError, match=r"^opkgs/file:1: a file; expected a folder$"):
        folders.load(recipes / "opkgs/file")
