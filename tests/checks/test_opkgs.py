"""The tests of OPKGs, with the script run for real and only the change of user left out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.checks import opkgs
from pipeline.errors import ClusterError


class LocalShell:
    """Runs scripts here; `runuser` is a stand-in that says whom it was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        stub = folder / "bin" / "runuser"
        stub.write_text('#!/bin/sh\n[ "$1 $2 $3" = "-u oscartst --" ] && shift 3 && exec "$@"\n')
        stub.chmod(0o755)
        getent = folder / "bin" / "getent"
        getent.write_text(f"#!/bin/sh\necho 'oscartst:x:5000:5000::{folder}:/bin/sh'\n")
        getent.chmod(0o755)

    def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
        script = f"PATH={self.folder}/bin:$PATH\n{script.replace('/usr/lib/oscar/packages', str(self.folder))}"
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> LocalShell:
    return LocalShell(tmp_path)


def opkg(shell: LocalShell, **tests: str) -> None:
    (shell.folder / "c3" / "testing").mkdir(parents=True)
    for name, text in tests.items():
        path = shell.folder / "c3" / "testing" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)


def test_both_kinds(shell: LocalShell) -> None:
    opkg(
        shell,
        test_root="echo as root; echo two nodes",
        test_user="echo $USER in $PWD for ${OSCAR_PACKAGE_HOME##*/}; exit 3",
    )
    root, user = opkgs.run_tests("c3", "head", shell)
    assert (root.name, root.machine, root.outcome, root.message) == ("opkg c3 test_root", "head", "passed", "two nodes")
    assert root.output == "as root\ntwo nodes\n"
    assert (user.name, user.outcome) == ("opkg c3 test_user", "failed")
    assert user.message == f"exit status 3: oscartst in {shell.folder} for c3"
    assert user.started >= root.started and root.seconds >= 0


def test_no_tests_no_results(shell: LocalShell) -> None:
    (shell.folder / "c3").mkdir()
    assert opkgs.run_tests("c3", "head", shell) == ()


def test_an_opkg_that_is_not_there(shell: LocalShell) -> None:
    (result,) = opkgs.run_tests("c3", "head", shell)
    assert result.outcome == "failed" and "c3" in result.message


def test_a_test_that_hangs(shell: LocalShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opkgs, "LIMIT", 0.2)
    opkg(shell, test_root="echo waiting; exec sleep 60")
    (result,) = opkgs.run_tests("c3", "head", shell)
    assert result.outcome == "failed" and result.message == "no end after 0.2 s; last: waiting"


def test_a_test_that_floods(shell: LocalShell) -> None:
    opkg(shell, test_root="head -c 300000 /dev/zero | tr '\\0' x; echo; echo the end")
    (result,) = opkgs.run_tests("c3", "head", shell)
    assert result.message == "the end" and len(result.output) <= 64 * 1024


def test_a_test_that_is_no_program(shell: LocalShell) -> None:
    opkg(shell, test_root="")
    (shell.folder / "c3" / "testing" / "test_root").chmod(0o644)
    (result,) = opkgs.run_tests("c3", "head", shell)
    assert result.outcome == "failed" and result.message.startswith("exit status 126")


def test_a_lost_connection() -> None:
    class Lost:
        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            raise ClusterError("head: the ssh connection broke", tail="closed by remote host")

    (result,) = opkgs.run_tests("c3", "head", Lost())
    assert (result.outcome, result.message, result.output) == (
        "error",
        "head: the ssh connection broke",
        "closed by remote host",
    )


def test_a_broken_shell() -> None:
    class Killed:
        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            return 137, "", ""

    (result,) = opkgs.run_tests("c3", "head", Killed())
    assert (result.outcome, result.message) == ("error", "exit status 137, no output")


@pytest.mark.parametrize("heading", ["test_root zero 1 2", "test_root 0", "test_root 0 1 x", ""])
def test_what_no_script_of_ours_would_say(heading: str) -> None:
    class Forged:
        def run(self, machine: str, script: str, *, user: str = "root", timeout: float) -> tuple[int, str, str]:
            mark = script.partition("mark=")[2].partition("\n")[0].strip("'")
            return 0, f"\n{mark} {heading}\nran\n\n{mark} end\n", ""

    (result,) = opkgs.run_tests("c3", "head", Forged())
    assert result.outcome == "error" and "cannot be read" in result.message
