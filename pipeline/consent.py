"""Asking a person before something is lost that nothing can make again."""

from __future__ import annotations

import doit

from pipeline import events
from pipeline.errors import UserError


def require(question: str, refusal: UserError) -> None:
    """Go on if `--yes` was said or whoever sits at the terminal says so; raise `refusal` if not, or if nobody does."""
    if not doit.get_var("yes") and not events.ask(question):
        raise refusal
