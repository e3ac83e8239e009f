"""`doit console` of a machine that does not run: what it wrote last, made fit for a terminal, or all of it as it is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.commands.console import Console
from tests.samples import cluster

HOSTILE = b"\x1b]52;c;cm0=\x07[bold]boot\x1b[2J\r\nlogin: \xff\x9b2J\n"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "head.log"
    lifecycle = SimpleNamespace(
        cluster=cluster("one"),
        console_argv=lambda _machine: None,
        console_log=lambda machine: path.with_name(f"{machine}.log"),
    )
    monkeypatch.setattr("pipeline.tasks.Graph", lambda _folder: SimpleNamespace(running=lambda _name: lifecycle))
    return path


def console(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["doit", "console", *words])
    status: int = Console().parse_execute(list(words))
    return status


def test_it_is_cleaned(log: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log.write_bytes(HOSTILE)
    assert console(monkeypatch, "one") == 0
    assert capfdbinary.readouterr().out == "[bold]boot\nlogin: \ufffd\ufffd2J\n".encode()


def test_of_a_long_one_the_end_is_shown_and_how_to_see_more(
    log: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log.write_bytes(b"a line\n" * 1_000_000 + b"the end\n")
    console(monkeypatch, "one", "head")
    said = capfdbinary.readouterr().out
    assert len(said) < 101_000 and said.endswith(b"a line\nthe end\n")
    assert b"bytes before this are left out; --raw shows all" in said.splitlines()[0]


def test_raw_is_all_of_it_as_it_was(
    log: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    log.write_bytes(HOSTILE)
    log.with_name("head.log.0").write_bytes(b"before \x1b[1m\n" * 20_000)
    assert console(monkeypatch, "one", "--raw") == 0
    assert capfdbinary.readouterr().out == b"before \x1b[1m\n" * 20_000 + HOSTILE
