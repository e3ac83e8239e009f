"""Packages come to a machine that runs and go again, by this machine's rpm in a root of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pipeline.packages.rpm import brought
from pipeline.packages.rpm.family import RPM
from tests import rpmsuite


def test_what_is_taken_of_this_machine_counts_in_keys(tmp_path: Path) -> None:
    brought.of_host(tmp_path / "rpm")
    configuration = {path.name for path in (tmp_path / "rpm").iterdir()} & {
        path.name for path in Path("/usr/lib/rpm").iterdir() if path.is_file()
    }
    named = [Path(tool.removeprefix("file:")) for tool in RPM.root.tools if tool.startswith("file:")]
    assert {path.name for path in named} == configuration != set()
    assert all(path.read_bytes() == (tmp_path / "rpm" / path.name).read_bytes() for path in named)


def test_packages_come_and_go(tmp_path: Path) -> None:
    suite = rpmsuite.make(tmp_path / "suite")
    suite.rpm("lib", "1.0")
    suite.rpm("tool", "2.0", tags="Requires: lib")
    folder = tmp_path / "packages"
    folder.mkdir()
    (tmp_path / "root").mkdir()
    program = tmp_path / "bin/rpm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec /usr/bin/rpm --root {tmp_path}/root --dbpath /var/lib/rpm "$@"\n')
    program.chmod(0o755)

    def call(text: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": f"{program.parent}:{os.environ['PATH']}", "RPM_FORCE_DEBIAN": "1"}
        script = f"{RPM.changing}\n{RPM.listing}\n{text}"
        return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)

    def listed() -> list[str]:
        return call("list_packages").stdout.splitlines()

    assert call(f"add_packages {folder}").returncode == 0, "nothing is no matter"
    for file in (tmp_path / "suite").rglob("*.rpm"):
        (folder / file.name).hardlink_to(file)
    for _ in range(2):  # it can be repeated
        done = call(f"add_packages {folder}")
        assert done.returncode == 0, done.stderr
        assert listed() == ["lib 1.0-1 whole", "tool 2.0-1 whole"]
    refused = call("take_packages lib")
    assert refused.returncode != 0 and "is needed by (installed) tool" in refused.stderr
    for _ in range(2):
        done = call("take_packages tool nowhere lib")
        assert done.returncode == 0, done.stderr
        assert listed() == []
