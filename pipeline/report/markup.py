"""Building HTML and SVG so that nothing can be forgotten to escape: text becomes markup only through `element`."""

from __future__ import annotations

import html
from collections.abc import Iterable

from pipeline.foreign import clean

#: HTML's elements without content; SVG's are closed like any other.
_VOID = frozenset({"meta", "br", "hr"})

Attribute = str | int | float | bool | None


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Foreign text as markup: cleaned and escaped."""
    return value if isinstance(value, Markup) else Markup(html.escape(clean(value)))


def join(parts: Iterable[str]) -> Markup:
    return Markup("".join(text(part) for part in parts))


def element(name: str, /, *children: str | None, **attributes: Attribute) -> Markup:
    """An element.  Children that are no markup are escaped, those that are None are left out.

    So are attributes that are None or False.  In an attribute's name a trailing underscore keeps clear of Python's
    words (`class_`), any other stands for a hyphen.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(key)
        else:
            value = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
            words.append(f'{key}="{html.escape(clean(value))}"')
    start = f"<{' '.join(words)}>"
    if name in _VOID:
        return Markup(start)
    return Markup(f"{start}{join(child for child in children if child is not None)}</{name}>")
