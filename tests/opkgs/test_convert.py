"""Older OPKGs in generation 3: they mean the same, and nothing that they say is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.opkgs import config, convert, document
from pipeline.opkgs.document import Element
from pipeline.opkgs.filters import Filter
from pipeline.opkgs.model import Opkg
from tests.opkgs.test_config import CORPUS

WORDS = st.text("abcdef", min_size=1, max_size=6)
GROUPS = st.sampled_from(["", "oscar_server", "oscar_clients", "all"])


def converted(file: Path, folder: Path) -> tuple[Opkg, Opkg, str]:
    """An OPKG, the same after conversion, and the text of that."""
    old = config.read(file)
    text = document.write(convert.to_generation3(document.parse(file), old))
    copy = folder / "converted" / file.parent.name / "config.xml"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, newline="")
    return old, config.read(copy), text


def meaning(opkg: Opkg) -> Any:
    """What it is and says, and each package with each filter by which it is asked for."""
    asked = {
        (each.relation, each.sides, package, one)
        for each in opkg.dependencies
        for package in each.packages
        for one in each.filters or (Filter(),)
    }
    same = ("name", "title", "version", "summary", "class_", "about", "provides", "conflicts", "requires", "filters")
    return asked, {field: getattr(opkg, field) for field in same}


def words_of(element: Element) -> list[str]:
    """Every text in it, and every attribute but where a document type is said to be."""
    own = [value for name, value in element.attributes.items() if not name.startswith("x")]
    return [element.text, *own, *(word for child in element.children for word in words_of(child))]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no OPKGs of the OSCAR project here: XEN_OSCAR_OPKGS=FOLDER")
def test_real_ones_mean_the_same_and_lose_nothing(tmp_path: Path) -> None:
    for file in sorted(CORPUS.glob("gen[12]/*/config.xml")):
        old, new, text = converted(file, tmp_path)
        assert new.generation == 3 and meaning(new) == meaning(old), file
        flat = " ".join(text.replace("&amp;", "&").replace("&gt;", ">").replace("&lt;", "<").split())
        for words in words_of(document.parse(file).root):
            known = words in ("package", "", "0", "all") or words.startswith("oscar_") or words in old.version
            assert known or words in flat, (file, words)
        assert text.count("<!--") == file.read_bytes().count(b"<!--"), file


@st.composite
def older(draw: st.DrawFn) -> str:
    """A config.xml of generation 2, with what generation 3 has no word for."""

    def filters() -> str:
        found = ""
        for group, name, version, machine in draw(
            st.lists(
                st.tuples(
                    GROUPS,
                    st.one_of(st.just(""), WORDS),
                    st.sampled_from(["", "4", "el4"]),
                    st.sampled_from(["", "x86_64", "i386"]),
                ),
                max_size=3,
            )
        ):
            distribution = (
                f"<distribution><name>{name}</name><version>{version}</version></distribution>" if name else ""
            )
            found += f"<filter><group>{group}</group>{distribution}<architecture>{machine}</architecture></filter>"
        return found

    lists = "".join(
        f"<binary-package-list>{filters()}{''.join(f'<pkg>{name}</pkg>' for name in names)}</binary-package-list>"
        for names in draw(st.lists(st.lists(WORDS, min_size=1, max_size=3), max_size=3))
    )
    between = "".join(
        f"<{relation}><type>{kind}</type><name>{name}</name></{relation}>"
        for relation, kind, name in draw(
            st.lists(
                st.tuples(
                    st.sampled_from(["requires", "conflicts", "provides"]),
                    st.sampled_from(["package", "", "rpm"]),
                    WORDS,
                ),
                max_size=3,
            )
        )
    )
    services = "".join(
        f"<servicelist><filter><group>{group}</group></filter><service>{name}</service></servicelist>"
        for group, name in draw(st.lists(st.tuples(GROUPS, WORDS), max_size=2))
    )
    special = f"<package-specific-attributes><switcher><tag>{draw(WORDS)}</tag><name>{draw(WORDS)}</name></switcher>"
    vendor = draw(st.sampled_from(["", "<vendor>V</vendor>", "<copyright>2004</copyright>", "<odd a='b'>x<y/></odd>"]))
    people = draw(
        st.sampled_from(
            [
                "",
                "<packager><name>P</name><email>p@x</email></packager>",
                "<maintainer><name>M</name></maintainer><packager><name>P</name></packager>",
            ]
        )
    )
    return (
        f"<oscar><!-- {draw(WORDS)} --><name>{draw(WORDS)} {draw(WORDS)}</name>"
        f"<version><major>1</major><minor>2</minor><release>3</release>"
        f"<epoch>{draw(st.integers(0, 2))}</epoch></version>"
        f"<class>included</class>"
        f"<summary>{draw(WORDS)}</summary>{people}{vendor}{between}{lists}{services}{special}"
        f"</package-specific-attributes></oscar>"
    )


@given(older())
def test_whatever_an_older_one_says(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("older")
    file = folder / "app/config.xml"
    file.parent.mkdir()
    file.write_text(text)
    old, new, written = converted(file, folder)
    assert meaning(new) == meaning(old)
    again, same, unchanged = converted(folder / "converted/app/config.xml", folder / "again")
    assert unchanged == written and dataclasses.replace(same, folder=again.folder, warnings=()) == dataclasses.replace(
        again, warnings=()
    )


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("<rpmlist><filter group='oscar_server'/></rpmlist>", "<older:rpmlist>"),
        ("<rpmlist><rpm arch='i386'>a</rpm></rpmlist>", 'arch="i386"'),
        ("<rpmlist><filter><why>so</why></filter><rpm>a</rpm></rpmlist>", "<why>so</why>"),
        ("<rpmlist><rpm>a</rpm><junk>b</junk></rpmlist>", "<junk>b</junk>"),
        ("<description>a <b>bold</b> c</description>", "a <b>bold</b> c"),
        ("<license lang='en'>GPL</license>", 'lang="en"'),
        ("<summary>another</summary>", "<older:summary>another"),
        ("<provides><pkg>nm</pkg></provides>", "<pkg>nm</pkg>"),
        ("<requires>words<name>nm</name></requires>", "words<name>nm"),
        ("<requires><name>nm</name><filter group='all'/></requires>", 'group="all"'),
        ("<filter distribution_version='4.5'/>", 'distribution_version="4.5"'),
        ("<rpmlist>words<rpm>a</rpm></rpmlist>", "words"),
        ("<rpmlist><filter>words</filter><rpm>a</rpm></rpmlist>", "words"),
        (
            "<rpmlist><filter><group>all</group><group>oscar_server</group></filter><rpm>a</rpm></rpmlist>",
            "oscar_server",
        ),
        ("<maintainer>Jane Doe</maintainer>", "<name>Jane Doe</name>"),
        ("<packager>Jane<email>j@x</email></packager>", "Jane<email>"),
        ("<packager><requires>it</requires></packager>", "<requires>it"),
        ("<version><major>2</major><!--c--></version>", "<!--c-->"),
        ("<switcher><tag>mpi</tag></switcher>", "<tag>mpi"),
        ("<filter group='oscar_server' distribution='fedora'/>", "oscar_server"),
    ],
)
def test_what_is_not_understood_is_carried(tmp_path: Path, said: str, kept: str) -> None:
    file = tmp_path / "odd" / "config.xml"
    file.parent.mkdir()
    version = "<major>1</major><minor>0</minor><release>1</release>"
    head = f"<oscar kind='x'><name>odd</name><version>{version}</version><summary>{'long ' * 16}</summary>"
    file.write_text(f"{head}<license>GPL</license><rpmlist><rpm>it</rpm></rpmlist>{said}</oscar>")
    old, new, text = converted(file, tmp_path)
    assert text.count("<!--") == said.count("<!--") and (old.about.switcher, old.filters) == (
        new.about.switcher,
        new.filters,
    )
    assert kept in text and 'kind="x"' in text and ("long " * 16).strip() in text, text
    assert len(new.summary) <= 67


def test_declarations_and_instructions_are_carried(tmp_path: Path) -> None:
    file = tmp_path / "odd" / "config.xml"
    file.parent.mkdir()
    doctype = '<!DOCTYPE oscar SYSTEM "x.dtd" [<!ATTLIST rpm version CDATA "2"> <!-- so -->]>'
    version = "<version><major>1</major></version>"
    said = "<rpmlist><?in a list?><rpm>it</rpm></rpmlist>"
    file.write_text(f"{doctype}<?first ?><oscar><name>odd</name>{version}<summary>s</summary>{said}</oscar><?last x?>")
    old, new, text = converted(file, tmp_path)
    assert [str(one) for each in old.dependencies for one in each.packages] == ["it=2"] and meaning(new) == meaning(old)
    root = document.parse(tmp_path / "converted/odd/config.xml").root
    assert root.value("older:doctype") == doctype
    assert all(one in text for one in ("<?first?>", "<?last x?>", "<?in a list?>"))
