"""What is wrong in a config.xml is told with its line; real ones of all generations are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.opkgs import config
from pipeline.opkgs.model import Opkg
from tests.manifests.conftest import opkg_text

#: Real files of the OSCAR project, which are not ours to copy: GENERATION/NAME/config.xml.
CORPUS = Path(os.environ.get("XEN_OSCAR_OPKGS") or Path(__file__).parents[3] / "shared" / "opkgs")

BOMB = '<!DOCTYPE oscar [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><oscar><name>&b;</name></oscar>'
OLD = """<oscar><version><major>1</major></version><name>X</name><summary>y</summary>
<rpmlist><filter group='oscar_sever'/><rpm>y</rpm></rpmlist></oscar>"""
OTHER_FILE = '<!DOCTYPE oscar [<!ENTITY a SYSTEM "file:///etc/passwd">]><oscar><name>&a;</name></oscar>'


def message(folder: Path, text: str | bytes, name: str = "app") -> str:
    (folder / name).mkdir()
    (folder / name / "config.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ManifestError) as caught:
        config.read(folder / name / "config.xml")
    return re.sub(r"(?m)^.*?config\.xml:", "", caught.value.message)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "1: this is not XML: no element found"),
        ("<oscar>\n<name></oscar>", r"2: this is not XML: mismatched tag \(column 9\)"),
        (b"\xff\xfe\x00", "1: this is not XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><oscar/>', "this is not XML: unknown encoding"),
        (b'<?xml version="1.0" encoding="utf-7"?><oscar/>', "this is not XML"),
        ("<a>" * 100, "elements stand too deep in one another"),
        ("<!--" + "x" * (1 << 20) + "--><oscar/>", "larger than 1 MiB"),
        (BOMB, '1: entity "a"; expected a file without entities of its own'),
        (OTHER_FILE, 'entity "a"'),
        ('<!DOCTYPE x SYSTEM "../package.dtd"><oscar>&a;</oscar>', 'entity "a"'),
        ("<opkg/>", '1: opkg: expected the root element "oscar"'),
        (opkg_text("y"), '2: name: "y" differs from its folder "app"'),
        (opkg_text("app", kind="incldued"), 'class: "incldued" is not known; .* did you mean "included"'),
        (opkg_text("app", version="one two"), r'8: changelog\.versionEntry: version="one two" is not a version'),
        (opkg_text("app", "<serverDep/>"), '7: serverDep: unknown element; .*did you mean "serverDeps"'),
        (opkg_text("app", "<serverDeps>\n<pkg>y</pkg></serverDeps>"), r"8: serverDeps\.pkg: unknown element"),
        (opkg_text("app", "<serverDeps><requires/></serverDeps>"), r"7: serverDeps\.requires: no packages"),
        (opkg_text("app", "<serverDeps><requires>slurm</requires></serverDeps>"), '"slurm" stands between elements'),
        (opkg_text("app", "<serverDeps><requires><pkg>a b</pkg></requires></serverDeps>"), '"a b" is not a name'),
        (
            opkg_text("app", '<serverDeps><requires><pkg rel="=>" version="1">a</pkg></requires></serverDeps>'),
            'rel="=>" is not known',
        ),
        (
            opkg_text("app", '<serverDeps><requires><pkg rel=">">a</pkg></requires></serverDeps>'),
            'version="" is not a version',
        ),
        (
            opkg_text("app", '<serverDeps><requires><pkg versoin="1">a</pkg></requires></serverDeps>'),
            'unknown attribute "versoin"; .*did you mean "version"',
        ),
        ("<oscar><name>app</name><authors/></oscar>", "1: summary: missing; expected text"),
        ("<oscar><name>app</name><summary>y</summary><authors/></oscar>", "1: changelog: missing"),
        (
            "<oscar><name>X</name><summary>y</summary><version><major>\u00e9</major></version></oscar>",
            '1: version: "é" is not a version',
        ),
        (OLD, r'2: filter\.group: "oscar_sever" is not known; .*did you mean "oscar_server"'),
    ],
)
def test_mistakes(tmp_path: Path, text: str | bytes, wanted: str) -> None:
    told = message(tmp_path, text)
    assert re.search(f"^{wanted}" if wanted[0].isdigit() else wanted, told, re.MULTILINE), told


@pytest.mark.parametrize(
    "text",
    [
        opkg_text(
            "app", "<serverDeps><requires>\n<filters><arch>{}</arch></filters><pkg>x</pkg></requires></serverDeps>"
        ),
        OLD.replace("group='oscar_sever'", "architecture='{}'"),
    ],
)
def test_an_architecture_that_no_machine_has_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "app").mkdir()
    file = tmp_path / "app" / "config.xml"
    file.write_text(text.format("amd46"))
    warned = config.read(file).warnings
    assert [(one.line, one.text.partition(";")[0]) for one in warned] == [
        (text[: text.index("{}")].count("\n") + 1, '"amd46" is no architecture, so this never fits')
    ]
    assert warned[0].text.endswith('did you mean "amd64"?')
    for known in ("x86_64", "ia64", "ppc64", "all", "any", "ppc64le", "AMD64"):
        file.write_text(text.format(known))
        assert config.read(file).warnings == (), known


LOST = """<oscar><name>X</name>
<version><major>1</major><minr>2</minr></version><summary>y</summary>
<packager><name>P</name><email>p@example.org</email></packager><license>GPL</license>
<rmplist><rpm>jq</rpm></rmplist>
<requires><type>rpm</type><name>z</name></requires>
<rpmlist>less
  <filter gruop="oscar_server"/><rmp>jq</rmp><rpm>y</rpm></rpmlist>
<servicelist><service>gmond</service></servicelist>
<servicelist><filter group="oscar_server"/><service>gmetad</service></servicelist>
<package><switcher><tag>mpi</tag><name>lam</name></switcher></package>
</oscar>"""


def test_what_gets_lost_of_an_old_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "app" / "config.xml"
    file.parent.mkdir()
    file.write_text(LOST)
    assert [str(one).partition("config.xml:")[2] for one in sorted(config.read(file).warnings)] == [
        '2: version.minr: not acted upon: it is not known; did you mean "minor"?',
        '4: rmplist: not acted upon: it is not known; did you mean "rpmlist"?',
        '5: requires: type "rpm" is not acted upon; expected package',
        '6: rpmlist: "less" stands between elements and is not acted upon',
        '7: rpmlist.filter: attribute "gruop" is not acted upon: it is not known; did you mean "group"?',
        '7: rpmlist.rmp: not acted upon: it is not known; did you mean "rpm"?',
        "8: servicelist: not acted upon: services are enabled by their packages, or by a script: systemctl enable",
        "10: package: not acted upon: there are no switcher tags and no tables of OSCAR's database here",
    ]
    second = (
        file.read_text()
        .replace("rpmlist", "binary-package-list")
        .replace(
            '<filter gruop="oscar_server"/>',
            "<filter><group>all</group><distribution><nam>fc</nam><version>4</version></distribution></filter>",
        )
        .replace("rpm>", "pkg>")
    )
    file.write_text(second)
    found = config.read(file)
    assert found.generation == 2
    assert sorted(one.field for one in found.warnings if "filter" in one.field) == [
        "binary-package-list.filter.distribution.nam",
        "filter.distribution",
    ]


def older(folder: Path, inside: str) -> Opkg:
    file = folder / "app" / "config.xml"
    file.parent.mkdir(exist_ok=True)
    version = "<version><major>1</major></version>"
    file.write_text(f"<oscar>{version}<name>X</name><summary>y</summary>\n{inside}</oscar>")
    return config.read(file)


@pytest.mark.parametrize(
    ("inside", "field", "told"),
    [
        ("<class>core</class><class>base</class>", "class", "it is there again"),
        ("<version><major>2</major></version>", "version", "it is there again"),
        (
            "<rpmlist><filter><architecture>i386</architecture><architecture>x86_64</architecture></filter></rpmlist>",
            "rpmlist.filter.architecture",
            "it is there again, and only the first one counts",
        ),
        (
            "<rpmlist><filter distribution_version='4'/></rpmlist>",
            "filter.distribution",
            'version "4" of no distribution',
        ),
    ],
)
def test_what_of_an_old_one_does_not_count_is_told(tmp_path: Path, inside: str, field: str, told: str) -> None:
    (warning,) = older(tmp_path, inside).warnings
    assert (warning.line, warning.field) == (2, field) and warning.text.startswith(told)


def test_blanks_around_old_words_say_nothing(tmp_path: Path) -> None:
    found = older(tmp_path, "<rpmlist><filter group=' oscar_server' distribution='&#10;fc '/><rpm> a </rpm></rpmlist>")
    (one,) = found.dependencies
    assert one.sides == ("server",) and str(one.filters[0].distributions[0]) == "fc"


@pytest.mark.parametrize("name", ["red hat", "&lt;b&gt;", "fc' distribution_version='4 5", "é"])
def test_distributions_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        ManifestError, match=r"config\.xml:2: filter\.distribution: .* is no distribution; expected a name"
    ):
        older(tmp_path, f"<rpmlist><filter distribution='{name}'/><rpm>a</rpm></rpmlist>")


def test_what_is_there_twice_in_a_new_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "app" / "config.xml"
    file.parent.mkdir()
    file.write_text(opkg_text("app", "<class>core</class>"))
    assert any("it is there again" in one.text for one in config.read(file).warnings)


def test_names_as_old_ones_have_them(tmp_path: Path) -> None:
    for name in ("sync_files", "perl-Qt", "kernel_picker", "c3", "R"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.xml").write_text(OLD.replace("oscar_sever", "oscar_server"))
        assert config.read(tmp_path / name / "config.xml").name == name
    for name in ("a b", "-x", "..x", "a\nb", "caf\u00e9", "x;y"):
        assert "is no OPKG name; expected letters" in message(tmp_path, OLD, name)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file"):
        config.read(tmp_path / "config.xml")


@pytest.mark.skipif(not CORPUS.is_dir(), reason="no OPKGs of the OSCAR project here: XEN_OSCAR_OPKGS=FOLDER")
def test_real_ones_are_read() -> None:
    files = sorted(CORPUS.glob("gen[123]/*/config.xml"))
    assert files
    for file in files:
        found = config.read(file)
        assert found.generation == int(file.parent.parent.name[-1]), file
        assert found.name == file.parent.name
        assert found.version
        assert found.summary


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.xml")
    with pytest.raises(ManifestError, match="a folder or a special file"):
        config.read(tmp_path / "config.xml")
    assert config.may_be_core(tmp_path / "config.xml")
