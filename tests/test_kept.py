"""What is kept of a file of an OPKG: a mode that was meant, and nothing of the umask."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline import kept
from pipeline.errors import ManifestError
from pipeline.kept import Kept
from pipeline.opkgs import folders
from tests.manifests.conftest import opkg_text


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


def make(recipes: Path) -> Path:
    """An OPKG as a checkout makes it: with the modes that the umask of now leaves."""
    home = recipes / "opkgs" / "app"
    for name, text in {
        "config.xml": opkg_text("app"),
        "files/common/etc/conf": "x",
        "files/common/usr/bin/run": "x",
        "files/common/srv/empty/.keep": "",
        "data/conf": "x",
        "scripts/server-post-install": "#!/bin/sh",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        mode = 0o777 if "/bin" in text + name else 0o666
        with open(os.open(home / name, os.O_CREAT | os.O_WRONLY, mode), "w") as file:
            file.write(text)
    (home / "files/common/srv/empty/.keep").unlink()
    return home


def content(home: Path) -> dict[str, str]:
    found = folders.content(folders.load(home), "server", "systemd")
    return {name.removeprefix("opkgs/app/"): line for name, line in found}


def test_what_umasks_leave_of_a_checkout_makes_no_difference(tmp_path: Path) -> None:
    contents = []
    for value in (0o022, 0o002, 0o027, 0o077, 0o000):
        with umask(value):
            contents.append(content(make(tmp_path / f"{value:o}")))
    modes = {name: line[:11] for name, line in contents[0].items()}
    assert modes["files/common/etc/conf"] == modes["data/conf"] == "file 0644 " + contents[0]["data/conf"][10]
    assert modes["files/common/usr/bin/run"].startswith("file 0755")
    assert modes["files/common/srv/empty"] == "folder 0755"
    assert all(one == contents[0] for one in contents)


@pytest.mark.parametrize(
    "mode",
    [0o600, 0o640, 0o400, 0o440, 0o700, 0o750, 0o711, 0o4755, 0o2755, 0o6711, 0o4775, 0o666, 0o777, 0o444, 0o660],
)
def test_a_mode_that_was_meant_is_kept(tmp_path: Path, mode: int) -> None:
    home = make(tmp_path)
    for name in ("files/common/etc/conf", "files/common/usr/bin/run", "data/conf"):
        (home / name).chmod(mode)
        assert content(home)[name].startswith(f"file {mode:04o} "), name
    (home / "scripts/server-post-install").chmod(mode | 0o111)  # which is run whatever it is
    assert content(home)["scripts/server-post-install"].startswith("file 0755 ")


@pytest.mark.parametrize(("mode", "made"), [(0o664, 0o644), (0o744, 0o755), (0o775, 0o755), (0o645, 0o644)])
def test_a_mode_that_says_nothing_is_git_s(tmp_path: Path, mode: int, made: int) -> None:
    home = make(tmp_path)
    (home / "files/common/etc/conf").chmod(mode)
    assert content(home)["files/common/etc/conf"].startswith(f"file {made:04o} ")


@pytest.mark.parametrize(
    ("mode", "made"),
    [
        (0o700, 0o700),
        (0o1777, 0o1777),
        (0o2770, 0o2770),
        (0o750, 0o750),
        (0o775, None),
        (0o2755, 0o2755),
        (0o555, 0o555),
    ],
)
def test_a_folder_is_kept_where_it_is_empty_or_its_mode_was_meant(tmp_path: Path, mode: int, made: int | None) -> None:
    home = make(tmp_path)
    for name in ("files/common/srv/empty", "files/common/etc", "data"):
        (home / name).chmod(mode)
    found = content(home)
    assert found["files/common/srv/empty"] == f"folder {made or 0o755:04o} "
    for name in ("files/common/etc", "data"):
        assert found.get(name) == (f"folder {made:04o} " if made else None), name
    assert "files/common/etc/conf" in found


def test_a_group_that_is_handed_down_says_nothing(tmp_path: Path) -> None:
    home = make(tmp_path)
    home.chmod(0o2755)
    for folder in [path for path in home.rglob("*") if path.is_dir()]:
        folder.chmod(0o2755)
    assert "files/common/etc" not in content(home)


def test_each_of_kind_mode_bytes_and_target_is_another_line(tmp_path: Path) -> None:
    home = make(tmp_path)
    file, name = home / "files/common/etc/conf", "opkgs/app/files/common/etc/conf"
    lines = [str(kept.of(tmp_path, name))]
    for act in (lambda: file.chmod(0o600), lambda: file.write_text("y"), lambda: file.chmod(0o755)):
        act()
        lines.append(str(kept.of(tmp_path, name)))
    for target in ("nowhere", "else where\nand\udce9", "folder 0755 "):
        file.unlink()
        file.symlink_to(target)
        lines.append(str(kept.of(tmp_path, name)))
    file.unlink()
    file.mkdir()
    lines.append(str(kept.of(tmp_path, name)))
    assert len(set(lines)) == len(lines)
    for line in lines:
        assert str(Kept.parse(line)) == line
    assert Kept.parse(lines[-2]) == Kept("link", 0o777, "folder 0755 ")


def test_what_is_gone_or_special_by_now_is_told(tmp_path: Path) -> None:
    home = make(tmp_path)
    with pytest.raises(ManifestError, match=r"files/common/x:1: cannot be read: No such file"):
        kept.of(tmp_path, "opkgs/app/files/common/x")
    os.mkfifo(home / "data/pipe")
    with pytest.raises(ManifestError, match=r"data/pipe:1: expected a file"):
        kept.of(tmp_path, "opkgs/app/data/pipe")
