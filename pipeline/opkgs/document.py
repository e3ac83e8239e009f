"""An OPKG's `config.xml` as it stands, and written again without a loss: elements, attributes, text, comments,
processing instructions, and the document type that old files have, all in their order.

A document type may point to a DTD, which is never fetched, and hold declarations (the internal subset), which stay as
they are.  What it all means is read by `config`.  The parser refuses entities: a recipe can't read other files or fill
the memory, and what stands for a text that is not in the file is not taken for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat
from xml.parsers.expat.errors import XML_ERROR_INVALID_TOKEN, XML_ERROR_UNDEFINED_ENTITY, codes

from pipeline.mistakes import Mistake, fail, printable, quoted, shown

_DEEPEST = 32
LONGEST = 1 << 20
#: Attributes of one file: a declaration could give thousands to each of thousands of elements.
_MOST = 1 << 17
#: What stands for another text, but for characters and what XML itself knows; in declarations a % as well.
_ENTITY = re.compile(r"&(?!(?:lt|gt|amp|apos|quot);)([^\s#;&<]+);")
_DECLARED = re.compile(r"[&%](?!(?:lt|gt|amp|apos|quot);)([^\s#;&%<]+);")
#: Encodings by the first two bytes: a mark, or as much of <.
_BY_BEGINNING = {
    b"\xff\xfe": "UTF-16LE", b"<\0": "UTF-16LE", b"\xfe\xff": "UTF-16BE", b"\0<": "UTF-16BE",
}  # fmt: skip
_DTD_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Comment:
    """What stands between <!-- and -->."""

    text: str


@dataclass(frozen=True)
class Instruction:
    """A processing instruction, which stands between <? and ?>: the program that it is for, and what it says."""

    target: str
    text: str


#: What says nothing of the OPKG.
Aside = Comment | Instruction


@dataclass
class Element:
    """One element: its attributes, and what stands in it.  Where it stands in a file makes no other one of it."""

    tag: str
    line: int = field(default=0, compare=False)
    attributes: dict[str, str] = field(default_factory=dict)
    content: list[Element | Aside | str] = field(default_factory=list)

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
    before: list[Aside] = field(default_factory=list)
    after: list[Aside] = field(default_factory=list)
    doctype: str = ""


@dataclass
class _Doctype:
    """A document type while it is read: what there is of its text, and where its declarations begin (the byte, and
    the line)."""

    text: str = ""
    begin: int = 0
    line: int = 0
    is_open: bool = False


def parse(file: Path) -> Document:
    """What a file holds; raises ManifestError where it is none of XML, or too large."""

    def refuse(line: int, text: str) -> NoReturn:
        fail([Mistake(shown(file), line, "", text)])

    raw = b""
    try:
        if file.exists() and not file.is_file():
            refuse(1, "a folder or a special file; expected a text file")
        with file.open("rb") as stream:
            raw = stream.read(LONGEST + 1)
        if len(raw) > LONGEST:
            refuse(1, "larger than 1 MiB; expected a file written by a person")
        return _Parser(raw, refuse).document()
    except OSError as error:
        refuse(1, f"cannot be read: {error.strerror}")
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        if error.code == codes[XML_ERROR_INVALID_TOKEN] and not _is_utf8(raw):
            reason += '; expected UTF-8, or the encoding in the first line: <?xml version="1.0" encoding="ISO-8859-1"?>'
        refuse(error.lineno, f"this is not XML: {reason} (column {error.offset + 1})")
    except (ValueError, LookupError) as error:
        refuse(1, f"this is not XML: {printable(str(error))}; expected UTF-8")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Parser:
    """Reads one file."""

    def __init__(self, raw: bytes, refuse: Callable[[int, str], NoReturn]) -> None:
        self._raw = raw
        self._refuse = refuse
        self._top = Element("", 1)
        self._stack = [self._top]
        self._encoding = _BY_BEGINNING.get(raw[:2], "UTF-8")
        self._doctype = _Doctype()
        self._root_at = 0
        self._attributes = 0
        self._expat = expat.ParserCreate()

    def document(self) -> Document:
        """All of it; raises ExpatError and what codecs raise for what is no XML."""
        self._expat.buffer_text = True
        self._expat.XmlDeclHandler = self._declaration
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = lambda tag: self._stack.pop()
        self._expat.CharacterDataHandler = self._characters
        self._expat.CommentHandler = lambda text: self._aside(Comment(text))
        self._expat.ProcessingInstructionHandler = lambda target, text: self._aside(Instruction(target, text))
        self._expat.StartDoctypeDeclHandler = self._doctype_begins
        self._expat.EndDoctypeDeclHandler = self._doctype_ends
        self._expat.EntityDeclHandler = lambda name, *_: self._refuse_entity(self._expat.CurrentLineNumber, name)
        self._parse(self._expat, 0, 1)
        content = self._top.content
        root = self._top.children[0]
        if self._doctype.text:  # with one, expat passes over entities that it does not know
            self._parse(expat.ParserCreate(self._encoding), self._root_at, root.line)
        outside = [piece for piece in content if isinstance(piece, Aside)]
        first = content.index(root)
        return Document(root, outside[:first], outside[first:], self._doctype.text)

    def _parse(self, parser: expat.XMLParserType, begin: int, line: int) -> None:
        """What begins there, on that line."""
        try:
            parser.Parse(self._raw[begin:], True)
        except expat.ExpatError as error:
            if error.code == codes[XML_ERROR_UNDEFINED_ENTITY]:
                text = self._text(begin + parser.ErrorByteIndex)
                if found := _ENTITY.search(text):
                    self._refuse_entity(error.lineno + line - 1 + text.count("\n", 0, found.start()), found[1])
            raise

    def _text(self, begin: int, end: int | None = None) -> str:
        return self._raw[begin:end].decode(self._encoding).replace("\r\n", "\n").replace("\r", "\n")

    def _refuse_entity(self, line: int, name: str) -> NoReturn:
        self._refuse(line, f"entity {quoted(name)}; expected a file without entities of its own")

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and not self._encoding.startswith("UTF-16"):
            self._encoding = encoding

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._stack) > _DEEPEST:
            self._refuse(self._expat.CurrentLineNumber, "elements stand too deep in one another")
        self._attributes += len(attributes)
        if self._attributes > _MOST:
            self._refuse(self._expat.CurrentLineNumber, f"more than {_MOST} attributes, as its declarations say")
        if len(self._stack) == 1:
            self._root_at = self._expat.CurrentByteIndex
        element = Element(tag, self._expat.CurrentLineNumber, attributes)
        self._stack[-1].content.append(element)
        self._stack.append(element)

    def _aside(self, piece: Aside) -> None:
        if not self._doctype.is_open:
            self._stack[-1].content.append(piece)

    def _characters(self, text: str) -> None:
        content = self._stack[-1].content
        if content and isinstance(content[-1], str):  # as it comes, in pieces of whatever size
            content[-1] += text
        else:
            content.append(text)

    def _doctype_begins(self, name: str, system: str | None, public: str | None, has_subset: bool) -> None:
        where = f" PUBLIC {_literal(public)} {_literal(system or '')}" if public else ""
        where = where or (f" SYSTEM {_literal(system)}" if system else "")
        begin = self._expat.CurrentByteIndex if has_subset else 0
        self._doctype = _Doctype(f"<!DOCTYPE {name}{where}", begin, line=self._expat.CurrentLineNumber, is_open=True)

    def _doctype_ends(self) -> None:
        self._doctype.is_open = False
        subset = self._text(self._doctype.begin, self._expat.CurrentByteIndex).strip() if self._doctype.begin else ""
        without = _DTD_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), subset)
        if found := _DECLARED.search(without):
            self._refuse_entity(self._doctype.line + without.count("\n", 0, found.start()), found[1])
        self._doctype.text += f" {subset}>" if subset else ">"


def write(document: Document) -> str:
    """The text of a file that `parse` reads as the same document, in UTF-8."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', document.doctype, *map(_aside, document.before)]
    return "\n".join(filter(None, [*lines, _element(document.root), *map(_aside, document.after)])) + "\n"


def _element(element: Element) -> str:
    from xml.sax import saxutils  # takes longer to import than reading: it wants http and ssl

    attributes = "".join(f" {name}={_attribute(value)}" for name, value in element.attributes.items())
    inside = "".join(
        _element(piece)
        if isinstance(piece, Element)
        else _aside(piece)
        if isinstance(piece, Aside)
        else saxutils.escape(piece, {"\r": "&#13;"})
        for piece in element.content
    )
    return f"<{element.tag}{attributes}>{inside}</{element.tag}>" if inside else f"<{element.tag}{attributes}/>"


def _attribute(value: str) -> str:
    """In quotes; a line break in an attribute would be read as a space."""
    from xml.sax import saxutils

    return saxutils.quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def _literal(text: str) -> str:
    """A name of a DTD in quotes, in which nothing stands for anything else."""
    return f"'{text}'" if '"' in text else f'"{text}"'


def _aside(piece: Aside) -> str:
    if isinstance(piece, Comment):
        return f"<!--{piece.text}-->"
    return f"<?{piece.target} {piece.text}?>" if piece.text else f"<?{piece.target}?>"
