"""What completes command lines: what fits by the commands' own arguments, and the script as bash runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boot.checkout import TOP

#: What bash does when one presses Tab behind a line.
PRESS = """
eval "$(doit tabcompletion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
_doit
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which `doit` is this checkout's."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/doit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m doit "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "XEN_OSCAR_ARTIFACTS": str(tmp_path / "a")}


@pytest.mark.parametrize(
    ("line", "fitting"),
    [
        ("doit stat", ["status"]),
        ("doit cluster:debian12", ["debian12", "debian12-xen"]),
        ("doit vm sa", ["save"]),
        ("doit vm save debian12-", ["debian12-xen"]),
        ("doit vm save debian12 ", ["head", "node1", "node2"]),
        ("doit vm save debian12 node1 no", ["node1", "node2"]),
        ("doit vm start --no-wait debian12 he", ["head"]),
        ("doit vm stop debian12 --w", ["--within"]),
        ("doit vm add debian12 me", ["memory="]),
        ("doit vm remove debian12 --d", ["--disks"]),
        ("doit cluster re", ["remove"]),
        ("doit cluster add mine --dis", ["--distro"]),
        ("doit cluster add mine --extends debian12-", ["debian12-xen"]),
        ("doit cluster remove fc4-", ["fc4-i386", "fc4-xen"]),
        ("doit vm re", ["remove", "report", "reset", "restore", "resume"]),
        ("doit vm set debian12 node1 me", ["memory="]),
        ("doit vm set debian12 node1 next-boot=i", ["install"]),
        ("doit freeze debian12-", ["debian12-xen"]),
        ("doit thaw debian12 --same", ["--same-identity"]),
        ("doit test debian12 --j", ["--junit"]),
        ("doit opkg install debian12 mun", ["munge"]),
        ("doit opkg re", ["remove"]),
        ("doit ssh debian12 node", ["node1", "node2"]),
        ("doit why disk:debian12/n", ["debian12/node1", "debian12/node2"]),
        ("doit info host:l", []),
        ("doit vm halt debian12 ", []),
        ("doit tabcompletion z", ["zsh"]),
        ("doit export debian12 ", ["head", "image"]),
        ("doit export debian12 head --format ", ["qcow2", "raw", "tar.zst"]),
    ],
)
def test_what_fits(environment: dict[str, str], line: str, fitting: list[str]) -> None:
    done = subprocess.run(
        ["bash", "-c", PRESS, "bash", line],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == fitting


def test_what_zsh_is_given_is_a_script_of_its_own(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["doit", "tabcompletion", "zsh"],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "compdef _doit doit" in done.stdout and "complete -F" not in done.stdout
