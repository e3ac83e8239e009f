"""The view that builders and machines have of this machine, and who root is in there."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.sandbox import View
from tests.namespaced import subordinate_user


def inside(view: View, script: str, *, prefix: Sequence[str] = (), who: sandbox.Identity | None = None) -> str:
    """What a shell script prints there, errors too."""
    argv = [*prefix, *sandbox.namespace(network=False, view=view, who=who), "sh", "-c", script]
    done = subprocess.run(
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("seen", "written", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    return tmp_path


def test_nothing_is_seen_but_what_was_named(place: Path) -> None:
    sandbox.give(place / "written")
    seen = inside(
        View(reads=(place / "seen",), writes=(place / "written",)),
        f"cd {place}; ls; cat seen/file; echo new > written/new; echo new > seen/new; ls /home /root /var/lib /boot",
    )
    assert seen.startswith("seen\nwritten\nseen\n")
    assert (place / "written/new").read_text() == "new\n"
    assert not (place / "seen/new").exists()
    assert seen.count("Read-only file system") == 1
    assert all(f"cannot access '{name}'" in seen for name in ("/home", "/root", "/boot"))


@pytest.mark.parametrize("path", ["/usr/new", "/etc/new", "/usr/bin/sh"])
def test_the_system_cannot_be_changed(path: str) -> None:
    assert "Read-only file system" in inside(View(), f"echo x > {path}")


def test_links_on_the_way_lead_to_where_they_do_outside(place: Path) -> None:
    (place / "seen/away").symlink_to(place / "other")
    (place / "short").symlink_to("seen")
    view = View(reads=(place / "short/away/file",))
    assert inside(view, f"cat {place}/short/away/file {place}/other/file; ls {place}") == (
        "other\nother\nother\nseen\nshort\n"
    )


def test_a_circle_of_links_and_what_is_not_there_are_passed_over(place: Path) -> None:
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    assert inside(View(reads=(place / "a/x", place / "none")), "echo fine") == "fine\n"


def test_no_more_namespaces_can_be_made(place: Path) -> None:
    argv = [
        *sandbox.namespace(network=False),
        "python3",
        "-c",
        (
            "import sys; sys.path.insert(0, sys.argv[1]); from pipeline import sandbox; import os; "
            "sandbox.settle(); os.execvp('unshare', ['unshare', '--user', 'true'])"
        ),
        str(Path(sandbox.__file__).parents[1]),
    ]
    if not sandbox.identity().base and os.geteuid() == 0:
        pytest.skip("there is no user namespace here to forbid others in")
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert "No space left on device" in done.stderr, done  # as the kernel words it


root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@root
def test_root_is_nobody_outside(place: Path) -> None:
    who = sandbox.identity()
    if who.base is None:
        pytest.skip(who.obstacle)
    sandbox.give(place / "written")
    (place / "written/seteuid").write_text("")
    inside(
        View(writes=(place / "written",)),
        f"cd {place}/written; echo x > new; chmod 4755 new; chown 5:6 new; rm seteuid; cat /etc/shadow > shadow",
    )
    assert (place / "written/new").stat().st_uid == who.base + 5
    assert (place / "written/shadow").read_bytes() == b""
    assert not (place / "written/seteuid").exists()


@root
def test_what_root_alone_may_read_is_read_as_ours_and_as_nothing_else(place: Path) -> None:
    if sandbox.identity().base is None:
        pytest.skip(sandbox.identity().obstacle)
    for name in ("seen", "other"):
        (place / name / "file").chmod(0o600)
        (place / name).chmod(0o700)
    seen = inside(View(reads=(place / "seen",), made=(place / "other",)), f"cat {place}/seen/file {place}/other/file")
    assert seen.startswith("seen\n")
    assert "Permission denied" in seen
    assert stat.S_IMODE((place / "seen/file").stat().st_mode) == 0o600


@root
def test_where_root_has_to_be_root_it_sees_no_more(place: Path) -> None:
    seen = inside(
        View(reads=(place / "seen",)),
        f"id -u; cat /proc/self/uid_map; ls {place}; echo x > /usr/new",
        who=sandbox.Identity(0, obstacle="forbidden"),
    )
    assert seen.split()[0] == "0"
    assert "Read-only file system" in seen
    assert seen.split()[4:5] == ["seen"]


def test_an_ordinary_user_cannot_change_what_is_only_read(place: Path) -> None:
    user = subordinate_user()
    for path in (place, *place.parents[:2]):
        path.chmod(0o755)
    for path in place.rglob("*"):
        os.chown(path, int(subprocess.check_output(["id", "-u", user])), -1)
    seen = inside(
        View(reads=(place / "seen",), writes=(place / "written",)),
        f"cd {place}; ls; rm seen/file; echo new > written/new",
        prefix=["setpriv", "--reuid", user, "--regid", user, "--init-groups"],
        who=sandbox.Identity(1),
    )
    assert seen.startswith("seen\nwritten\n")
    assert "Read-only file system" in seen
    assert (place / "written/new").exists()
