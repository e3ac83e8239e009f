"""The private apt: what it is told is what it reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.packages.deb.apt import Apt

NAMES = ["My Projects", "a:1,b", "100%41", "it's", '"q"', "{x};", "#x", "x//y", "back\\slash", "Überblick", "$HOME"]


@pytest.mark.parametrize("name", NAMES)
def test_it_lives_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/Packages").write_text("Package: x\nVersion: 1\nArchitecture: all\nFilename: x\nSize: 1\n\n")
    folder = tmp_path / name
    apt = Apt(
        folder, architecture="amd64", lists=folder / "lists", sources=[f"deb [trusted=yes] copy:{tmp_path}/archive ./"]
    )
    update = apt.get("update", timeout=30)
    assert update.status == 0, update.stdout + update.stderr
    target = apt.get("indextargets", "--format", "$(FILENAME)", "Created-By: Packages", timeout=30).stdout
    assert Path(target.rstrip("\n")).parent == folder / "lists"
    assert Path(target.rstrip("\n")).read_text().startswith("Package: x")
