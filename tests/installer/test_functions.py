"""The installer's text functions, run by the shell that the installer has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

INSTALLER = Path(__file__).resolve().parents[2] / "pipeline/installer"
SCRIPTS = sorted(path for path in INSTALLER.iterdir() if path.is_file())


def sh(text: str, *words: str, cmdline: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run shell text after functions.sh, with a kernel command line."""
    environment = {"PATH": "/usr/bin:/bin"}
    if folder:
        (folder / "cmdline").write_text(cmdline + "\n")
        environment["CMDLINE"] = str(folder / "cmdline")
    return subprocess.run(
        ["busybox", "sh", "-euc", f". {INSTALLER}/functions.sh; {text}", "sh", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env=environment,
    )


def said(text: str, *words: str, cmdline: str = "", folder: Path | None = None) -> str:
    done = sh(text, *words, cmdline=cmdline, folder=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax(script: Path) -> None:
    subprocess.run(["busybox", "sh", "-n", str(script)], check=True, timeout=20)


@pytest.mark.parametrize(
    ("cmdline", "value"),
    [
        ("quiet si.image-server=10.0.0.1 ro", "10.0.0.1"),
        ("si.image-server=a si.image-server=b", "b"),
        ("xsi.image-server=a", ""),
        ("si.image-server=", ""),
        ("root=UUID=1 si.image-server=x=y", "x=y"),
        ("", ""),
    ],
)
def test_fact(tmp_path: Path, cmdline: str, value: str) -> None:
    assert said('fact "$1"', "si.image-server", cmdline=cmdline, folder=tmp_path) == value


@pytest.mark.parametrize(
    ("word", "mac"),
    [
        ("52:54:00:AA:bb:01", "52:54:00:aa:bb:01"),
        ("01-52-54-00-AA-BB-01", "52:54:00:aa:bb:01"),
        ("00-16-3E-00-00-01", "00:16:3e:00:00:01"),
        ("", ""),
    ],
)
def test_mac_address(word: str, mac: str) -> None:
    assert said('mac_address "$1"', word) == mac


def test_client_of(tmp_path: Path) -> None:
    table = tmp_path / "clients"
    table.write_text("52:54:00:00:00:01 node1 10.1.0.11 24 compute\n52:54:00:00:00:02 node2 10.1.0.12 24 compute\n")
    assert said('client_of "$1" "$2"', "52:54:00:00:00:02", str(table)) == "node2 10.1.0.12 24 compute"
    assert sh('client_of "$1" "$2"', "52:54:00:00:00:03", str(table)).returncode == 1


@pytest.mark.parametrize(
    ("disk", "number", "device"),
    [
        ("/dev/vda", "1", "/dev/vda1"),
        ("/dev/xvda", "5", "/dev/xvda5"),
        ("/dev/nvme0n1", "2", "/dev/nvme0n1p2"),
    ],
)
def test_partition_of(disk: str, number: str, device: str) -> None:
    assert said('partition_of "$1" "$2"', disk, number) == device


@pytest.mark.parametrize(
    ("part", "whole", "percent"),
    [
        (0, 300_000_000, 0),
        (150_000_000, 300_000_000, 49),
        (300_000_000, 300_000_000, 99),
        (400_000_000, 300_000_000, 99),
        (5_000_000_000, 10_000_000_000, 49),
        (0, 0, 0),
    ],
)
def test_percent(part: int, whole: int, percent: int) -> None:
    assert said('percent "$1" "$2"', str(part), str(whole)) == str(percent)
