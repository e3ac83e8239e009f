"""What the fields of manifests mean: the docstrings that stand below them.

pydantic can read them (`use_attribute_docstrings`), but does so whenever it makes a model, and every run that plans
would wait for it; wanted they are for mistakes and schemas alone.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel


def of(model: type[BaseModel], field: str) -> str:
    """What a field means, by its model or the nearest above that says it; "" where none does."""
    return next((texts[field] for texts in map(_texts, model.__mro__) if field in texts), "")


@functools.cache
def _texts(model: type) -> dict[str, str]:
    own = issubclass(model, BaseModel) and model is not BaseModel
    return dict(_docstrings(model)) if own else {}


def _docstrings(model: type) -> Iterator[tuple[str, str]]:
    """Field -> the text below it, in a model's own source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(ast.Constant(str(text))):
                    yield field.target.id, inspect.cleandoc(text)
