"""An OPKG's `config.xml` as it stands: its elements in their order, with what each says and its line.

Old files have quirks that are kept: a document type that points to a DTD (never fetched), unknown elements, attributes.
What they mean is read by `config`.  The parser refuses entities: a recipe can't read other files or fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from pipeline.mistakes import Mistake, fail, printable, quoted, shown

_DEEPEST = 32
_LIMIT = 1 << 20


@dataclass
class Element:
    """One element: `pieces` are what stands in it besides elements."""

    tag: str
    line: int
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What stands in it, with single spaces."""
        return " ".join("".join(self.pieces).split())

    def all(self, *tags: str) -> Iterator[Element]:
        """The elements in it that have one of these names."""
        return (child for child in self.children if child.tag in tags)

    def first(self, tag: str) -> Element | None:
        """The first of that name."""
        return next(self.all(tag), None)

    def value(self, tag: str) -> str:
        """What stands in the first of that name, "" where there is none."""
        found = self.first(tag)
        return found.text if found else ""


def parse(file: Path) -> Element:
    """The root element of a file; raises ManifestError where it is none of XML, or too large."""
    top = Element("", 1, {})
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(text: str) -> NoReturn:
        fail([Mistake(shown(file), parser.CurrentLineNumber, "", text)])

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            refuse("elements stand too deep in one another")
        element = Element(tag, parser.CurrentLineNumber, attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def entity(name: str, *_: object) -> None:
        refuse(f"entity {quoted(name)}; expected a file without entities of its own")

    def characters(text: str) -> None:
        stack[-1].pieces.append(text)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = entity
    parser.SkippedEntityHandler = lambda name, parameter: None if parameter else entity(name)
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
        if len(raw) > _LIMIT:
            refuse("larger than 1 MiB; expected a file written by a person")
        parser.Parse(raw, True)
    except OSError as error:
        fail([Mistake(shown(file), 1, "", f"cannot be read: {error.strerror}")])
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        fail([Mistake(shown(file), error.lineno, "", f"this is not XML: {reason} (column {error.offset + 1})")])
    except (ValueError, LookupError) as error:
        fail([Mistake(shown(file), 1, "", f"this is not XML: {printable(str(error))}")])
    return top.children[0]
