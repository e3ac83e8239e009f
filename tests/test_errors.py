"""Errors as a person reads them."""

from __future__ import annotations

import pickle
from pathlib import Path

from pipeline.errors import ClusterError, UserError


def test_an_error_is_told_with_all_that_helps() -> None:
    error = UserError("no space left", hint="make room", log=Path("/run/log"), tail="one\ntwo\n")
    assert error.render() == "no space left\n    | one\n    | two\n  hint: make room\n  log:  /run/log"
    assert UserError("no space left").render() == "no space left"


def test_what_a_guest_said_in_it_is_cleaned_and_has_an_end() -> None:
    error = ClusterError(
        "node1: \x1b]0;a title\x07failed \u202e" + "x" * 100_000,
        hint="\x1b[31mlook\x1b[0m",
        tail="\n".join(["\x1b[2Jline"] * 10_000 + ["y" * 100_000]),
    )
    said = error.render()
    assert "\x1b" not in said and "\u202e" not in said
    assert said.startswith("node1: failed \ufffdxxx") and "  hint: look" in said
    assert len(said.splitlines()) < 200 and len(said) < 20_000
    assert "more characters" in said


def test_it_is_the_same_on_the_other_side_of_a_process() -> None:
    error = ClusterError("it \x1b[1mfailed", hint="h", log=Path("l"), tail="t")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again)) == (ClusterError, vars(error))
