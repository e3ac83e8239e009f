"""`doit test`: what runs here and what on a copy; copies themselves are tested with machines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.test import is_local
from tests.boot.checkout import TOP


def test_pytest_with_a_file_that_lies_here_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_mine.py").touch()
    assert is_local(["pytest", "-q", "test_mine.py"])
    assert is_local(["pytest", "test_mine.py::test_one"])
    assert is_local(["pytest", "."])
    assert not is_local(["pytest", "test_yours.py"])
    assert not is_local(["pytest"])
    assert not is_local(["cat", "test_mine.py"])


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        (["debian12"], "there is no command", 2),
        (["debian12", "-n", "2", "--", "true"], "-n parts tests", 2),
        (["debian12", "true"], "unrecognized arguments: true", 2),
        (["debian21", "--", "true"], "there is no cluster 'debian21'", 3),
        (["debian12-xen", "--", "true"], "only clusters on QEMU on this machine can be frozen", 4),
        (["fc4", "--", "true"], "has no virtio", 4),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(tmp_path: Path, words: list[str], told: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "test", *words],
        cwd=TOP,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XEN_OSCAR_ARTIFACTS": str(tmp_path / "a")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, told in done.stderr) == (status, True), done.stderr


def test_what_is_not_frozen_is_booted_cold_first_and_ends_as_that_does(tmp_path: Path) -> None:
    """Here without any package; `tests/boot/test_cluster.py` sees it work."""
    done = subprocess.run(
        [sys.executable, "-m", "doit", "test", "debian12", "--", "true"],
        cwd=TOP,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "XEN_OSCAR_ARTIFACTS": str(tmp_path / "a"),
            "XEN_OSCAR_MIRROR": str(tmp_path / "nowhere"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stdout
    told = done.stderr.splitlines()
    assert told[0] == "debian12: booted cold and frozen first: it has not been frozen"
    assert told[-1] == "debian12 is not frozen: doit cluster:debian12 ended with status 1"
    assert "FAILED" in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_each_copy_gets_its_part_of_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("".join(f"def test_{number}(): pass\n" for number in range(5)))
    ran = []
    for number in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-p", "pipeline.commands.fixtures", "test_mine.py"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(TOP), "XEN_OSCAR_PART": f"{number}/2"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        ran.append([line.split()[0].partition("::")[2] for line in done.stdout.splitlines() if "PASSED" in line])
    assert ran == [["test_0", "test_2", "test_4"], ["test_1", "test_3"]]
