"""Asking a person before something is lost that nothing can make again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import doit

from pipeline import events
from pipeline.errors import UserError


@contextlib.contextmanager
def answered(yes: bool) -> Iterator[None]:
    """Within the block whoever sits at the terminal is asked; or it was said with the command: `yes`."""
    events.answer_with((lambda _: True) if yes else _ask)
    try:
        yield
    finally:
        events.answer_with(None)


def _ask(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def require(question: str, refusal: UserError) -> None:
    """Go on if `--yes` was said or whoever sits at the terminal says so; raise `refusal` if not, or if nobody does."""
    if not doit.get_var("yes") and not events.ask(question):
        raise refusal
