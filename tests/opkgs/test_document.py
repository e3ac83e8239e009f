"""A `config.xml` is kept as it stands: what is written is read as the same, whatever is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ManifestError
from pipeline.opkgs import document
from pipeline.opkgs.document import Aside, Comment, Document, Element, Instruction
from tests.opkgs.test_config import CORPUS

#: What XML can say: no control characters, no surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
COMMENTS = TEXT.filter(lambda text: "--" not in text and not text.endswith("-")).map(Comment)
INSTRUCTIONS = st.builds(
    Instruction, NAMES.filter(lambda name: name != "xml"), TEXT.map(str.lstrip).filter(lambda text: "?>" not in text)
)
ASIDES = st.one_of(COMMENTS, INSTRUCTIONS)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> Element:
    pieces = [st.text("ab \t\n<>&\"'", min_size=1, max_size=8), TEXT.filter(bool), ASIDES]
    below = draw(st.lists(st.one_of(*pieces, *([elements(depth - 1)] if depth else [])), max_size=4))
    content: list[Element | Aside | str] = []
    for piece in below:
        if isinstance(piece, str) and content and isinstance(content[-1], str):
            content[-1] += piece
        else:
            content.append(piece)
    attributes = draw(st.dictionaries(NAMES, st.one_of(TEXT, st.text("a \t\n\"'<&")), max_size=3))
    return Element(draw(NAMES), attributes=attributes, content=content)


DOCTYPES = st.sampled_from(
    [
        "",
        '<!DOCTYPE package SYSTEM "../package.dtd">',
        '<!DOCTYPE x PUBLIC "-//a" "b">',
        "<!DOCTYPE x SYSTEM 'a\"&amp;b'>",
        "<!DOCTYPE x [<!ELEMENT a (#PCDATA)>\n<!-- é ]> %a; &b; --><?pi x?><!ATTLIST none a CDATA 'b &lt; &#65;'>]>",
        '<!DOCTYPE x SYSTEM "y" [\n]>',
    ]
)


@given(st.builds(Document, elements(), st.lists(ASIDES, max_size=2), st.lists(ASIDES, max_size=2), DOCTYPES))
def test_what_is_written_is_read_as_the_same(tmp_path_factory: pytest.TempPathFactory, made: Document) -> None:
    file = tmp_path_factory.mktemp("document") / "config.xml"
    file.write_text(document.write(made), newline="")
    assert document.parse(file) == made


SAID = """<?xml version="1.0" encoding="ENCODING"?>\r
<!-- é --><!DOCTYPE oscar SYSTEM "x.dtd" [\r
 <!ELEMENT oscar ANY> <!-- é -->\r
]>\r
<oscar a="é">é<?run ü?></oscar>\r
"""


@pytest.mark.parametrize(
    ("encoding", "codec"),
    [("UTF-8", "utf-8"), ("utf-8", "utf-8-sig"), ("ISO-8859-1", "latin-1"), ("windows-1252", "cp1252"),
     ("ISO-8859-15", "iso8859-15"), ("UTF-16", "utf-16"), ("UTF-16", "utf-16-be")],
)  # fmt: skip
def test_encodings_that_are_declared(tmp_path: Path, encoding: str, codec: str) -> None:
    file = tmp_path / "config.xml"
    raw = SAID.replace("ENCODING", encoding).encode(codec)
    file.write_bytes(b"\xfe\xff" + raw if codec == "utf-16-be" else raw)
    read = document.parse(file)
    assert read == Document(
        Element("oscar", attributes={"a": "é"}, content=["é", Instruction("run", "ü")]),
        [Comment(" é ")],
        doctype='<!DOCTYPE oscar SYSTEM "x.dtd" [\n <!ELEMENT oscar ANY> <!-- é -->\n]>',
    )
    file.write_text(document.write(read))
    assert document.parse(file) == read


@pytest.mark.parametrize("codec", ["utf-8", "utf-16"])
@pytest.mark.parametrize("doctype", ['SYSTEM "x.dtd"', "[<!ELEMENT\na ANY>]", 'PUBLIC "x" "y" [\n]'])
@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('<oscar>\n<pkg version="1&lt;&ver;2">a</pkg></oscar>', '{1}: entity "ver"; expected a file without entities'),
        ('<oscar>\n<pkg\nversion="&ver;">a</pkg></oscar>', '{2}: entity "ver"'),
        ("<oscar>\n\n&ver;</oscar>", '{2}: entity "ver"'),
        ("<oscar>é\n<pkg></oscar>", "{1}: this is not XML: mismatched tag"),
    ],
)
def test_what_stands_for_another_text_is_refused(
    tmp_path: Path, doctype: str, codec: str, text: str, wanted: str
) -> None:
    """Also where the DTD, which nobody reads, could say what: expat leaves it out of an attribute without a word."""
    file = tmp_path / "config.xml"
    begin = f"<!DOCTYPE oscar {doctype}>\n"
    file.write_bytes(f"{begin}{text}".encode(codec))
    wanted = re.sub(r"^\{(\d)\}", lambda found: str(begin.count("\n") + 1 + int(found[1])), wanted)
    with pytest.raises(ManifestError, match=f":{wanted}"):
        document.parse(file)


@pytest.mark.parametrize(
    "declared", ['<!ATTLIST pkg version CDATA\n"&ver;">', "<!-- \n-->%more;", "<!ENTITY % ver 'x'>"]
)
def test_declarations_hold_no_entities(tmp_path: Path, declared: str) -> None:
    file = tmp_path / "config.xml"
    file.write_text(f'<!DOCTYPE oscar SYSTEM "x.dtd" [{declared}]>\n<oscar/>')
    line = declared.count("\n") + 1
    with pytest.raises(ManifestError, match=rf':{line}: entity "(ver|more)"'):
        document.parse(file)


def test_an_encoding_that_nobody_declared(tmp_path: Path) -> None:
    file = tmp_path / "config.xml"
    file.write_bytes("<oscar>\n<name>Olivér</name></oscar>".encode("latin-1"))
    with pytest.raises(ManifestError, match=r':2: this is not XML: .*first line: <\?xml version="1.0" encoding="ISO-'):
        document.parse(file)


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no OPKGs of the OSCAR project here: XEN_OSCAR_OPKGS=FOLDER")
def test_real_ones_are_written_without_a_loss(tmp_path: Path) -> None:
    for file in sorted(CORPUS.glob("gen[123]/*/config.xml")):
        read = document.parse(file)
        copy = tmp_path / "config.xml"
        copy.write_text(document.write(read), newline="")
        assert document.parse(copy) == read, file
        comments = file.read_bytes().count(b"<!--")
        assert copy.read_bytes().count(b"<!--") == comments, file
