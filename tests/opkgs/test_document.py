"""A `config.xml` is kept as it stands: what is written is read as the same, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.opkgs import document
from pipeline.opkgs.document import Comment, Document, Element
from tests.opkgs.test_config import CORPUS

#: What XML can say: no control characters, no surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff"), max_size=12)
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,5}", fullmatch=True)
COMMENTS = TEXT.filter(lambda text: "--" not in text and not text.endswith("-")).map(Comment)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> Element:
    pieces = [st.text("ab \t\n<>&\"'", min_size=1, max_size=8), TEXT.filter(bool), COMMENTS]
    below = draw(st.lists(st.one_of(*pieces, *([elements(depth - 1)] if depth else [])), max_size=4))
    content: list[Element | Comment | str] = []
    for piece in below:
        if isinstance(piece, str) and content and isinstance(content[-1], str):
            content[-1] += piece
        else:
            content.append(piece)
    attributes = draw(st.dictionaries(NAMES, st.one_of(TEXT, st.text("a \t\n\"'<&")), max_size=3))
    return Element(draw(NAMES), attributes=attributes, content=content)


DOCTYPES = st.sampled_from(["", '<!DOCTYPE package SYSTEM "../package.dtd">', '<!DOCTYPE x PUBLIC "-//a" "b">'])


@given(st.builds(Document, elements(), st.lists(COMMENTS, max_size=2), st.lists(COMMENTS, max_size=2), DOCTYPES))
def test_what_is_written_is_read_as_the_same(tmp_path_factory: pytest.TempPathFactory, made: Document) -> None:
    file = tmp_path_factory.mktemp("document") / "config.xml"
    file.write_text(document.write(made), newline="")
    assert document.parse(file) == made


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no OPKGs of the OSCAR project here: XEN_OSCAR_OPKGS=FOLDER")
def test_real_ones_are_written_without_a_loss(tmp_path: Path) -> None:
    for file in sorted(CORPUS.glob("gen[123]/*/config.xml")):
        read = document.parse(file)
        copy = tmp_path / "config.xml"
        copy.write_text(document.write(read), newline="")
        assert document.parse(copy) == read, file
        comments = file.read_bytes().count(b"<!--")
        assert copy.read_bytes().count(b"<!--") == comments, file
