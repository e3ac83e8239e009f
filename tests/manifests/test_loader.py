"""Mistakes are told with file, line, field, what was expected and the nearest right word: all of them at once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline.errors import ManifestError
from pipeline.manifests import loader
from pipeline.manifests.recipes import load
from tests.growing import require_linear
from tests.manifests.conftest import DISTRO, Writer


def message(folder: Path, cluster: str = "c") -> str:
    with pytest.raises(ManifestError) as caught:
        load(folder).cluster(cluster)
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            'distro = "debian12"\nhead.memroy = "1G"',
            r'^clusters/c\.toml:2: head\.memroy: unknown field; expected one of .*; did you mean "memory"\?$',
        ),
        (
            'distro = "debian12"\ncount = 3',
            r"^clusters/c\.toml:2: count: unknown field; .*; did you mean compute\.count\?",
        ),
        (
            'distro = "debain12"',
            r'^clusters/c\.toml:1: distro: "debain12" is not in distros; .* debian12; did you mean "debian12"\?$',
        ),
        ('host = "x"\ndistro = "debian12"', r'^clusters/c\.toml:1: host: "x" is not in hosts; expected one of local$'),
        (
            'distro = "debian12"\nopkgs = [\n"base",\n"slrum"]',
            r'^clusters/c\.toml:4: opkgs\[1\]: "slrum" is not in opkgs; .*did you mean "slurm"\?$',
        ),
        ("", r"^clusters/c\.toml:1: distro: missing; expected the name of a distribution"),
        ("distro = 12", r"^clusters/c\.toml:1: distro: 12 is a whole number; expected text: the name of"),
        ("distro = true", "distro: true is true or false; expected text"),
        ("distro = 1979-05-27", "distro: 1979-05-27 is a date or time; expected text"),
        ('distro = "debian12"\nopkgs = "base"', r':2: opkgs: "base" is text; expected a list'),
        ('distro = "debian12"\nhead = "big"', r':2: head: "big" is text; expected a table: the head node$'),
        ('distro = "debian12"\nhead = []', r":2: head: this is a list; expected a table"),
        ('distro = "debian12"\nname = "y"', r':2: name: unknown field; the name is the file\'s own: "c"'),
        ("\ndistro = ?", r"^clusters/c\.toml:2: this is not TOML: Invalid value \(column 10\)$"),
        ("distro = ", r"^clusters/c\.toml:1: this is not TOML: Invalid value$"),
        ("\n\nx = [1,\n", r"^clusters/c\.toml:\d: this is not TOML: "),
        ("x = 1\nx = 2", r"^clusters/c\.toml:2: this is not TOML: Cannot overwrite a value"),
        ("x = " + "[" * 50000, "stand too deep in one another"),
        ("x = " + "9" * 5000, "this is not TOML: a number is too long"),
        ("x = 0x" + "f" * 5000, "x: unknown field"),
        ("head.cpus = 0x" + "f" * 5000, "head.cpus: a number of 20000 bits"),
        ("head.cpus = nan", "head.cpus: nan is a number; expected a whole number"),
        ("#" * (1 << 20) + "#", "larger than 1 MiB"),
        ('"\\u0007\\u202e" = 1', r'"\\u0007\\u202e": unknown field'),
    ],
)
def test_mistakes(recipes: Writer, text: str, wanted: str) -> None:
    told = message(recipes({"clusters/c.toml": text}))
    assert re.search(wanted, told, re.MULTILINE), told


def test_all_mistakes_of_a_file_in_the_order_of_their_lines(recipes: Writer) -> None:
    text = 'distro = "x"\nopkgs = ["y"]\n[head]\nmemory = "1X"\n[compute]\ncount = 0\n'
    told = message(recipes({"clusters/c.toml": text})).splitlines()
    assert [line.split(":")[1] for line in told] == ["1", "2", "4", "6"]


def test_files_that_cannot_be_read(recipes: Writer) -> None:
    folder = recipes({})
    (folder / "clusters" / "c.toml").mkdir(parents=True)
    assert message(folder) == "clusters/c.toml:1: a folder or a special file; expected a text file"
    (folder / "clusters" / "c.toml").rmdir()
    (folder / "clusters" / "c.toml").symlink_to("c.toml")
    assert "clusters/c.toml:1: cannot be read: Too many levels of symbolic links" in message(folder)
    (folder / "clusters" / "c.toml").unlink()
    os.mkfifo(folder / "clusters" / "c.toml")
    assert message(folder).endswith("expected a text file")
    (folder / "clusters" / "c.toml").unlink()
    (folder / "clusters" / "c.toml").write_bytes(b'# a\n# caf\xe9\ndistro = "debian12"')
    assert message(folder) == "clusters/c.toml:2: not UTF-8 text; expected the encoding UTF-8"


def test_windows_line_ends_and_byte_order_mark_do_no_harm(recipes: Writer) -> None:
    folder = recipes({})
    (folder / "clusters").mkdir()
    (folder / "clusters" / "c.toml").write_bytes(b'\xef\xbb\xbfdistro = "debian12"\r\n[head]\r\ncpus = 0\r\n')
    assert message(folder).startswith("clusters/c.toml:3: head.cpus: 0 is out of range; expected at least 1")


def test_unknown_and_unfit_names(recipes: Writer) -> None:
    folder = recipes({"clusters/debian12.toml": 'distro = "debian12"', "clusters/Big Name.toml": ""})
    assert 'no "debain12"; expected one of' in message(folder, "debain12")
    assert message(folder, "debain12").endswith('did you mean "debian12"?')
    assert message(folder, "Big Name").startswith("clusters/Big Name.toml:1: the file's name is no name")


def test_extending_merges_tables_and_replaces_the_rest(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'distro = "debian12"\nopkgs = ["slurm"]\n[head]\nmemory = "1G"\ncpus = 2\n',
            "clusters/b.toml": 'extends = "a"\nopkgs = []\n[head]\ncpus = 3\n',
            "clusters/c.toml": 'extends = "b"\n[compute]\ncount = 5\n',
        }
    )
    cluster = load(folder).cluster("c")
    assert (cluster.name, cluster.distro, cluster.opkgs) == ("c", "debian12", ("base", "sis"))
    assert (cluster.head.memory, cluster.head.cpus, cluster.compute.count) == (1024, 3, 5)


def test_mistakes_are_told_where_they_were_written(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'distro = "debian12"\n\n[head]\nmemory = "1X"\ncpus = 2\n'
            "[compute]\nfilesystems = [{ mount = 1 }]\n",
            "clusters/c.toml": 'extends = "a"\n[head]\ncpus = 0\n'
            '[compute]\nfilesystems = [\n{ mount = "/", size = "1Q" }]\n',
        }
    )
    told = message(folder).splitlines()
    assert [line.split(": ")[:2] for line in told] == [
        ["clusters/a.toml:4", "head.memory"],
        ["clusters/c.toml:3", "head.cpus"],
        ["clusters/c.toml:6", "compute.filesystems[0].size"],
    ]


def test_extending_in_a_circle_or_from_nowhere(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'extends = "b"',
            "clusters/b.toml": 'extends = "a"',
            "clusters/c.toml": '\nextends = "aa"',
            "clusters/d.toml": "extends = 7",
            "clusters/e.toml": 'extends = "e"',
        }
    )
    assert message(folder, "a") == "clusters/b.toml:1: extends: goes in a circle: a -> b -> a"
    assert message(folder, "c").startswith('clusters/c.toml:2: extends: "aa" is not known; expected one of a, b, c,')
    assert message(folder, "d").startswith("clusters/d.toml:1: extends: 7 is not known")
    assert message(folder, "e").endswith("e -> e")


def test_distros_hosts_and_netboot_are_checked(recipes: Writer) -> None:
    folder = recipes(
        {
            "distros/d.toml": DISTRO.replace('"deb"', '"dep"').replace("base =", "bass ="),
            "hosts/h.toml": 'kind = "qemu"\nconnection = "qemu:system"',
            "netboot/i386.toml": 'distro = "debian12"\npackages = ["x_y"]',
            "netboot/ppc.toml": 'distro = "debian12"\npackages = ["grub"]',
        }
    )
    told = sorted("\n".join(planning.make(load(folder)).broken.values()).splitlines())
    assert [line.split(": ")[0] for line in told] == [
        "distros/d.toml:1",
        "distros/d.toml:7",
        "distros/d.toml:7",
        "hosts/h.toml:2",
        "netboot/i386.toml:2",
        "netboot/ppc.toml:1",
    ]
    assert told[0].endswith('family: "dep" is not known; expected one of deb, rpm; did you mean "deb"?')
    assert 'expected "private"' in told[3]


def test_time_grows_with_what_is_extended(tmp_path: Path) -> None:
    def read(size: int) -> None:
        keys = "".join(f"k{number} = 1\n" for number in range(size))
        (tmp_path / "lower.toml").write_text(keys)
        (tmp_path / "upper.toml").write_text(f'extends = "lower"\n{keys}')
        loader.extended(
            tmp_path / "upper.toml", lambda name: tmp_path / f"{name}.toml", ["lower"], lambda document: None
        )

    require_linear(read)
