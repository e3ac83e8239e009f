"""Filters, sides and dependencies of OPKGs of all three generations."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.opkgs import config
from pipeline.opkgs.filters import Versioned
from pipeline.opkgs.model import Opkg, packages, resolve
from pipeline.opkgs.phases import has_script
from tests.manifests.conftest import Target, opkg_text, target

DEBIAN = target("debian", "12")


def opkg(folder: Path, text: str, name: str = "app") -> Opkg:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "config.xml").write_text(text)
    return config.read(folder / name / "config.xml")


DEPENDENCIES = """
  <serverDeps>
    <requires><pkg>all</pkg><pkg version="1.2" rel=">=">new</pkg><pkg version="3">exact</pkg></requires>
    <requires><filters><dist>debian</dist><dist version="4">fc</dist></filters><pkg>either</pkg></requires>
    <requires><filters><dist version="13" rel=">=">debian</dist></filters><pkg>later</pkg></requires>
    <requires><filters><dist version="&lt;13">debian</dist></filters><pkg>earlier</pkg></requires>
    <requires><filters><dist>debian</dist><arch>x86_64</arch><arch>ia64</arch></filters><pkg>wide</pkg></requires>
    <requires><filters><arch>i386</arch></filters><pkg>narrow</pkg></requires>
    <suggests><pkg>perhaps</pkg></suggests>
    <conflicts><pkg>never</pkg></conflicts>
  </serverDeps>
  <clientDeps><requires><pkg>node</pkg></requires></clientDeps>
  <commonDeps><requires><pkg>both</pkg><pkg>node</pkg></requires></commonDeps>
  <apiDeps/>
"""


@pytest.mark.parametrize(
    ("where", "server"),
    [
        (DEBIAN, ["either", "earlier", "wide"]),
        (target("debian", "13", "i386"), ["either", "later", "narrow"]),
        (target("debian", "9"), ["either", "earlier", "wide"]),
        (target("fc", "4", "x86_64"), ["either"]),
        (target("fc", "40", "i686"), ["narrow"]),
    ],
)
def test_generation_3(tmp_path: Path, where: Target, server: list[str]) -> None:
    found = opkg(tmp_path, opkg_text("app", DEPENDENCIES))
    assert packages(found, "server", where) == ["all", "new>=1.2", "exact=3", *server, "both", "node"]
    assert packages(found, "client", where) == ["node", "both"]


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (("amd64", "x86_64", "AMD64", "x86-64", "any-amd64", "linux-amd64"), []),
        (("any", "all", "noarch", "linux-any", "any-any"), ["x"]),
    ],
)
def test_architectures_by_any_of_their_names(tmp_path: Path, words: tuple[str, ...], others: list[str]) -> None:
    for word in words:
        text = f"<serverDeps><requires><filters><arch>{word}</arch></filters><pkg>x</pkg></requires></serverDeps>"
        found = opkg(tmp_path, opkg_text("app", text))
        assert packages(found, "server", DEBIAN) == ["x"], word
        assert packages(found, "server", target("debian", "12", "i386")) == others, word


OLD = """<?xml version="1.0" encoding="ISO-8859-1"?>
<!DOCTYPE package SYSTEM "../package.dtd">
<oscar><name>An \xe9 old one</name>
  <version><major>2</major><minor>0</minor><subversion>0p8</subversion><release>3</release><epoch>1</epoch></version>
  <class>included</class><summary>Of old</summary>
  <requires><type>package</type><name>switcher</name></requires>
  <conflicts><name>pbs</name><type>package</type></conflicts>
  {lists}
</oscar>
"""
FIRST = """<url>x</url>
  <rpmlist><rpm>all</rpm></rpmlist>
  <rpmlist><filter group="oscar_server"/><rpm>server</rpm></rpmlist>
  <rpmlist>
    <filter group="oscar_server" distribution="debian" distribution_version="12"/>
    <filter group="oscar_server" distribution="fc" distribution_version="4" architecture="i386"/>
    <filter group="oscar_clients" distribution="fc"/>
    <rpm>some</rpm>
  </rpmlist>
"""
SECOND = """
  <binary-package-list><pkg>all</pkg></binary-package-list>
  <binary-package-list><filter><group>oscar_server</group></filter><pkg>server</pkg></binary-package-list>
  <binary-package-list>
    <filter><group>oscar_server</group><distribution><name>debian</name><version>12</version></distribution></filter>
    <filter><group>oscar_server</group><architecture>i386</architecture>
      <distribution><name>fc</name><version>4</version></distribution></filter>
    <filter><group>oscar_clients</group><distribution><name>fc</name></distribution></filter>
    <pkg>some</pkg>
  </binary-package-list>
"""


@pytest.mark.parametrize(("generation", "lists"), [(1, FIRST), (2, SECOND)])
def test_older_generations(tmp_path: Path, generation: int, lists: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.xml").write_bytes(OLD.format(lists=lists).encode("latin-1"))
    found = config.read(tmp_path / "app" / "config.xml")
    assert (found.name, found.title, found.generation) == ("app", "An é old one", generation)
    assert (found.version, found.class_, found.summary) == ("1:2.0.0p8-3", "included", "Of old")
    assert (found.requires, found.conflicts) == ((Versioned("switcher"),), (Versioned("pbs"),))
    assert packages(found, "server", DEBIAN) == ["all", "server", "some"]
    assert packages(found, "client", DEBIAN) == ["all"]
    assert packages(found, "server", target("fc", "4", "i386")) == ["all", "server", "some"]
    assert packages(found, "server", target("fc", "4")) == ["all", "server"]
    assert packages(found, "client", target("fc", "5")) == ["all", "some"]


def opkgs(folder: Path, **more: str) -> dict[str, Opkg]:
    return {name: opkg(folder, opkg_text(name, text), name) for name, text in more.items()}


def needs(*names: str) -> str:
    return "<requires>" + "".join(f"<pkg>{name}</pkg>" for name in names) + "</requires>"


def test_requirements_come_first_and_the_order_is_else_kept(tmp_path: Path) -> None:
    known = opkgs(tmp_path, slurm=needs("munge"), munge="", ganglia="", openmpi=needs("slurm"))
    known["core"] = opkg(tmp_path, opkg_text("core", kind="core"), "core")
    assert resolve(known, ["openmpi", "ganglia", "munge"], DEBIAN) == (
        ("core", "munge", "slurm", "openmpi", "ganglia"),
        [],
    )
    assert resolve(known, ["ganglia", "core"], DEBIAN) == (("ganglia", "core"), [])


def test_what_others_provide_satisfies(tmp_path: Path) -> None:
    known = opkgs(tmp_path, app=needs("mpi"), lam="<provides><pkg>mpi</pkg></provides>")
    assert resolve(known, ["app"], DEBIAN) == (("lam", "app"), [])
    known |= opkgs(tmp_path, openmpi="<provides><pkg>mpi</pkg></provides>")
    assert resolve(known, ["app", "openmpi"], DEBIAN) == (("openmpi", "app"), [])
    assert resolve(known, ["app"], DEBIAN)[1] == [
        'OPKG "app" requires "mpi", which several OPKGs provide; expected one of them to be named: lam, openmpi'
    ]


def test_versions_between_opkgs(tmp_path: Path) -> None:
    known = opkgs(tmp_path, app='<requires><pkg version="2" rel=">=">munge</pkg></requires>')
    known["munge"] = opkg(tmp_path, opkg_text("munge", version="1.9-1"), "munge")
    assert resolve(known, ["app"], DEBIAN)[1] == [
        'OPKG "app" requires "munge>=2", which no OPKG provides; did you mean "munge"?'
    ]
    known["munge"] = opkg(tmp_path, opkg_text("munge", version="2.0-1"), "munge")
    assert resolve(known, ["app"], DEBIAN)[0] == ("munge", "app")


def test_what_does_not_go_together(tmp_path: Path) -> None:
    known = opkgs(
        tmp_path,
        one=needs("two"),
        two=needs("one"),
        pbs="<conflicts><pkg>slurm</pkg></conflicts>",
        slurm="<conflicts><pkg>pbs</pkg></conflicts>",
        lost=needs("slrum"),
        old='<filters><dist version="4">fc</dist></filters>',
    )
    assert resolve(known, ["one"], DEBIAN)[1] == ["OPKGs require each other in a circle: one -> two -> one"]
    assert resolve(known, ["pbs", "slurm"], DEBIAN)[1] == ['OPKG "slurm" conflicts with "pbs"; expected one of them']
    assert resolve(known, ["lost"], DEBIAN)[1] == [
        'OPKG "lost" requires "slrum", which no OPKG provides; did you mean "slurm"?'
    ]
    known |= opkgs(tmp_path, top=needs("middle"), middle=needs("lost"), suite=needs("slurm"))
    assert resolve(known, ["top"], DEBIAN)[1] == [
        'OPKG "lost" requires "slrum", which no OPKG provides (top -> middle -> lost -> slrum); did you mean "slurm"?'
    ]
    assert resolve(known, ["pbs", "suite"], DEBIAN)[1] == [
        'OPKG "slurm" conflicts with "pbs" (suite -> slurm); expected one of them'
    ]
    assert resolve(known, ["old"], DEBIAN)[1] == ['OPKG "old" is not for debian 12 on amd64; it is for fc=4']
    assert resolve(known, ["old"], target("fc", "4"))[1] == []


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_numbers_in_versions_compare_as_numbers(one: list[int], other: list[int]) -> None:
    left, right = ".".join(map(str, one)), ".".join(map(str, other))
    assert Versioned("x", "<", right).admits(left) == (one < other)
    assert Versioned("x", ">=", right).admits(left) == (one >= other)
    assert Versioned("x", "=", right).admits(left) == (one == other)


def test_epochs_come_before_everything() -> None:
    assert Versioned("x", ">", "9.0").admits("1:1.0")
    assert Versioned("x", "=", "0:9.0").admits("9.0")


@pytest.mark.parametrize(
    ("phase", "file", "there"),
    [
        ("api-post-deploy", "api-post-deploy", True),
        ("api-post-deploy", "post_install", True),
        ("api-post-clientdef", "post_clients", True),
        ("api-post-clientdef", "post_install", False),
        ("client-post-install", "post_rpm_install", True),
        ("api-post-deploy", "post_install.orig", False),
    ],
)
def test_a_phase_is_announced_by_any_of_its_names(phase: str, file: str, there: bool) -> None:
    assert has_script(phase, "app", {f"opkgs/app/scripts/{file}", "opkgs/other/scripts/api-post-deploy"}) is there
