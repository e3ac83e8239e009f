"""An OPKG's `config.xml` as it stands, and written again without a loss: elements, attributes, text, comments, and the
document type that old files have (it points to a DTD, which is never fetched), all in their order.

What they mean is read by `config`.  The parser refuses entities: a recipe can't read other files or fill the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat
from xml.sax import saxutils

from pipeline.mistakes import Mistake, fail, printable, quoted, shown

_DEEPEST = 32
LONGEST = 1 << 20


@dataclass(frozen=True)
class Comment:
    """What stands between <!-- and -->."""

    text: str


@dataclass
class Element:
    """One element: its attributes, and what stands in it.  Where it stands in a file makes no other one of it."""

    tag: str
    line: int = field(default=0, compare=False)
    attributes: dict[str, str] = field(default_factory=dict)
    content: list[Element | Comment | str] = field(default_factory=list)

    @property
    def children(self) -> list[Element]:
        """The elements in it."""
        return [piece for piece in self.content if isinstance(piece, Element)]

    @property
    def text(self) -> str:
        """The text in it, with single spaces."""
        return " ".join("".join(piece for piece in self.content if isinstance(piece, str)).split())

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


@dataclass
class Document:
    """A whole file: what stands before its root element and after it, and the document type ("" = none)."""

    root: Element
    before: list[Comment] = field(default_factory=list)
    after: list[Comment] = field(default_factory=list)
    doctype: str = ""


def parse(file: Path) -> Document:
    """What a file holds; raises ManifestError where it is none of XML, or too large."""
    top = Element("", 1)
    stack = [top]
    doctypes: list[str] = []
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(text: str) -> NoReturn:
        fail([Mistake(shown(file), parser.CurrentLineNumber, "", text)])

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(stack) > _DEEPEST:
            refuse("elements stand too deep in one another")
        element = Element(tag, parser.CurrentLineNumber, attributes)
        stack[-1].content.append(element)
        stack.append(element)

    def entity(name: str, *_: object) -> None:
        refuse(f"entity {quoted(name)}; expected a file without entities of its own")

    def characters(text: str) -> None:
        content = stack[-1].content
        if content and isinstance(content[-1], str):  # as it comes, in pieces of whatever size
            content[-1] += text
        else:
            content.append(text)

    def doctype(name: str, system: str | None, public: str | None, _internal: bool) -> None:
        where = f" PUBLIC {saxutils.quoteattr(public)}" if public else " SYSTEM" if system else ""
        doctypes.append(f"<!DOCTYPE {name}{where}{' ' + saxutils.quoteattr(system) if system else ''}>")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: stack.pop()
    parser.CharacterDataHandler = characters
    parser.CommentHandler = lambda text: stack[-1].content.append(Comment(text))
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = entity
    parser.SkippedEntityHandler = lambda name, parameter: None if parameter else entity(name)
    try:
        if file.exists() and not file.is_file():
            refuse("a folder or a special file; expected a text file")
        with file.open("rb") as stream:
            raw = stream.read(LONGEST + 1)
        if len(raw) > LONGEST:
            refuse("larger than 1 MiB; expected a file written by a person")
        parser.Parse(raw, True)
    except OSError as error:
        fail([Mistake(shown(file), 1, "", f"cannot be read: {error.strerror}")])
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        fail([Mistake(shown(file), error.lineno, "", f"this is not XML: {reason} (column {error.offset + 1})")])
    except (ValueError, LookupError) as error:
        fail([Mistake(shown(file), 1, "", f"this is not XML: {printable(str(error))}")])
    root = top.children[0]
    outside = [piece for piece in top.content if isinstance(piece, Comment)]
    first = sum(isinstance(piece, Comment) for piece in top.content[: top.content.index(root)])
    return Document(root, outside[:first], outside[first:], "".join(doctypes))


def write(document: Document) -> str:
    """The text of a file that `parse` reads as the same document, in UTF-8."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', document.doctype, *map(_comment, document.before)]
    return "\n".join(filter(None, [*lines, _element(document.root), *map(_comment, document.after)])) + "\n"


def _element(element: Element) -> str:
    attributes = "".join(f" {name}={_attribute(value)}" for name, value in element.attributes.items())
    inside = "".join(
        _element(piece)
        if isinstance(piece, Element)
        else _comment(piece)
        if isinstance(piece, Comment)
        else saxutils.escape(piece, {"\r": "&#13;"})
        for piece in element.content
    )
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>" if inside else f"<{element.tag}{attributes}/>"


def _attribute(value: str) -> str:
    """In quotes; a line break in an attribute would be read as a space."""
    return saxutils.quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _comment(comment: Comment) -> str:
    return f"<!--{comment.text}-->"
