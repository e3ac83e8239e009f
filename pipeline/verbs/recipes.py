"""What verbs share that edit recipes: one at a time, and what is typed as FIELD=VALUE."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from pipeline.errors import UserError, WrongUse
from pipeline.locks import Busy, locked
from pipeline.mistakes import nearest
from pipeline.verbs.rows import Clusters

#: Seconds that another command may take, which edits a recipe, too.
_PATIENCE = 120


@contextlib.contextmanager
def edited_alone(clusters: Clusters) -> Iterator[None]:
    """Within the block no other command edits recipes."""
    clusters.run.mkdir(parents=True, exist_ok=True)
    try:
        with locked(clusters.run / ".recipes.lock", within=_PATIENCE):
            yield
    except Busy:
        raise UserError(f"another command has been changing recipes for {_PATIENCE} s") from None


def assigned(words: Sequence[str], fields: Sequence[str]) -> dict[str, str | int]:
    """Fields and their values, as a recipe has them; raises WrongUse for a field that is none of these."""
    found: dict[str, str | int] = {}
    for word in words:
        field, _, value = word.partition("=")
        if field not in fields:
            near = nearest(field, fields, 0.5)
            hint = f"did you mean {near}={value}?" if near else f"there are: {', '.join(fields)}"
            raise WrongUse(f"machines have no {field!r} that can be set", hint=hint)
        if field in found:
            raise WrongUse(f"{field} is there twice")
        is_number = field == "cpus" and value.isascii() and value.isdigit() and len(value) < 10
        found[field] = int(value) if is_number else value
    return found
