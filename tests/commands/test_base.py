"""What our own commands share."""

from __future__ import annotations

import argparse
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pipeline.commands.base import GraphCommand

if TYPE_CHECKING:
    from pipeline.tasks import Graph

HOSTILE = "\x1b]52;c;cm0=\x07a \x1b[2Jname\u202e"


class Loud(GraphCommand):
    name = "loud"
    doc_purpose = "says what somebody else has written"

    def main(self, graph: Graph, args: argparse.Namespace) -> int:
        print(HOSTILE)
        print(HOSTILE, file=sys.stderr)
        sys.stdout.flush()
        sys.stdout.buffer.write(b"\x1b[1m as it is\n")
        return 3


def test_what_a_command_prints_comes_out_clean(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr("pipeline.tasks.Graph", lambda _folder: SimpleNamespace())
    monkeypatch.setattr(sys, "argv", ["doit", "loud"])
    assert Loud().parse_execute([]) == 3
    said = capsysbinary.readouterr()
    assert said.out.decode() == "a name\ufffd\n\x1b[1m as it is\n"
    assert said.err.decode() == "a name\ufffd\n"
