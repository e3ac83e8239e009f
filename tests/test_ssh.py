"""What ssh is told: read by ssh itself, for it has words of its own for spaces, quotes and percent signs."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from pipeline import ssh

NAMES = ["My Projects", "100%h and 100%", "it's", '"q"', "back\\slash", "a,b:c#d=e", "Überblick", "$HOME", "`id`", "~x"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["UserKnownHostsFile", "ControlPath", "IdentityFile"])
def test_a_path_of_any_name_is_read_as_it_is(name: str, option: str) -> None:
    path = f"/srv/{name}/file"
    shown = subprocess.run(
        ["ssh", "-G", "-F", "none", "-o", ssh.option(option, path), "host"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=True,
    ).stdout.splitlines()
    # it replaces what % stands for in the name of a key only once it reads the key
    assert f"{option.lower()} {path.replace('%', '%%') if option == 'IdentityFile' else path}" in shown


def test_a_socket_has_a_short_name_wherever_temporary_files_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with ssh.socket_folder() as folder:
        assert len(str(folder / "head")) < 80
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
