"""A machine's files against those that it was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from pipeline.checks.facts import FactsError, parse_tree
from pipeline.checks.files import KNOWN, as_changed, compare
from pipeline.description import Role
from pipeline.guests.debian import GUEST
from pipeline.inventory import Entry
from pipeline.packages.deb.family import DEB

FILE, LINK, FOLDER = Entry("f", 0o644, 0, 0, 7, 5, md5="a" * 32), Entry("l", 0o777, target="usr/bin"), Entry("d", 0o755)
IMAGE = {
    "etc": FOLDER,
    "etc/fstab": FILE,
    "etc/passwd": FILE,
    "bin": LINK,
    "var/lib/munge": FOLDER,
    "var/lib/dpkg/status": FILE,
    "usr/one": FILE._replace(inode="1"),
    "usr/two": FILE._replace(inode="1"),
    "usr/holes": FILE._replace(size=1 << 20, holes=500_000),
    "usr/pipe": Entry("p", 0o622),
    "usr/tool": FILE._replace(attributes={"security.capability": "01", "user.a b": ""}),
    "usr/list": FOLDER._replace(attributes={"system.posix_acl_default": "02"}),
}


def differences(
    found: Mapping[str, Entry], sums: dict[str, str] | None = None, role: Role = "compute"
) -> list[tuple[str, str, bool]]:
    return [
        (item.path, item.kind, item.known is not None)
        for item in compare(IMAGE, found, sums or {}, role, GUEST.known, DEB)
    ]


def test_equal() -> None:
    assert differences(IMAGE) == []


@pytest.mark.parametrize(
    ("path", "entry", "found"),
    [
        ("etc/passwd", FILE._replace(size=6), ("content", False)),
        ("etc/passwd", LINK._replace(target="/tmp/x"), ("content", False)),
        ("etc/passwd", FILE._replace(mode=0o666), ("metadata", False)),
        ("etc/passwd", FILE._replace(mode=0o4644), ("metadata", False)),
        ("etc/passwd", FILE._replace(uid=1), ("metadata", False)),
        ("etc/passwd", FILE._replace(gid=1), ("metadata", False)),
        ("etc/passwd", FILE._replace(mtime=8), ("metadata", False)),
        ("etc/passwd", FILE._replace(attributes={"user.x": ""}), ("metadata", False)),
        ("bin", LINK._replace(target="sbin"), ("content", False)),
        ("bin", LINK._replace(uid=1), ("metadata", False)),
        ("bin", LINK._replace(mtime=9), ("metadata", False)),
        ("etc", FOLDER._replace(mode=0o777), ("metadata", False)),
        ("etc", FOLDER._replace(attributes={"system.posix_acl_access": "02"}), ("metadata", False)),
        ("usr/list", FOLDER, ("metadata", False)),
        ("usr/pipe", Entry("p", 0o600), ("metadata", False)),
        ("usr/pipe", FILE._replace(mode=0o622), ("content", False)),
        ("usr/holes", FILE._replace(size=1 << 20), ("metadata", False)),
        ("usr/tool", FILE._replace(attributes={"security.capability": "01"}), ("metadata", False)),
        ("usr/tool", FILE._replace(attributes={"security.capability": "03", "user.a b": ""}), ("metadata", False)),
        ("etc/fstab", FILE._replace(size=99), ("content", True)),
        ("var/lib/munge", FOLDER._replace(mode=0o711, uid=105, gid=105), ("metadata", True)),
        ("var/lib/dpkg/status", FILE._replace(size=7), ("content", False)),
    ],
)
def test_one_difference(path: str, entry: Entry, found: tuple[str, bool]) -> None:
    assert differences({**IMAGE, path: entry}) == [(path, *found)]


def test_a_name_that_is_gone() -> None:
    assert differences({path: IMAGE[path] for path in IMAGE if path != "etc/passwd"}) == [
        ("etc/passwd", "missing", False)
    ]
    assert differences({path: IMAGE[path] for path in IMAGE if path != "etc/fstab"}) == [
        ("etc/fstab", "missing", False)
    ], "that it is the node's own is no reason for that"


def test_a_checksum_finds_what_size_and_time_do_not() -> None:
    assert differences(IMAGE, {"etc/passwd": "b" * 32}) == [("etc/passwd", "content", False)]
    assert differences(IMAGE, {"etc/passwd": "-"}) == [("etc/passwd", "content", False)]
    assert differences(IMAGE, {"etc/passwd": "a" * 32}) == []


def test_names_of_one_file_that_are_two_now() -> None:
    apart = {**IMAGE, "usr/two": FILE._replace(inode="")}
    assert differences(apart) == [("usr/one", "metadata", False), ("usr/two", "metadata", False)]
    another = {**IMAGE, "etc/passwd": FILE._replace(inode="1")}
    assert ("etc/passwd", "metadata", False) in differences(another)
    elsewhere = {path: entry._replace(inode=entry.inode and "2049:77") for path, entry in IMAGE.items()}
    assert differences({**elsewhere, "home/name": FILE._replace(inode="2049:77")}) == [], "a name more somewhere else"


def test_the_time_of_a_folder_and_more_holes_are_no_difference() -> None:
    assert differences({**IMAGE, "etc": FOLDER._replace(mtime=99), "etc/passwd": FILE._replace(holes=3)}) == []


def test_what_differs_is_said() -> None:
    other = {**IMAGE, "usr/tool": FILE._replace(mode=0o600, mtime=8, holes=1)}
    found = compare(IMAGE, other, {}, "compute", GUEST.known, DEB)
    assert [item.detail for item in found] == [
        "mode 0600, not 0644; time 8, not 7; security.capability nothing, not 01; user.a b nothing, not "
    ]


def test_added_files_count_in_system_folders_only() -> None:
    assert differences({**IMAGE, "usr/bin/new": FILE, "var/lib/new": FILE, "home/user/new": FILE}) == [
        ("usr/bin/new", "added", False)
    ]


def test_names_of_any_bytes_are_told_in_one_line() -> None:
    (item,) = compare(IMAGE, {**IMAGE, "usr/new\nline\udcff\\": FILE}, {}, "compute", GUEST.known, DEB)
    assert item.shown == r"usr/new\nline\xff\\"


def test_a_tree_as_a_machine_tells_it() -> None:
    tree = parse_tree(r"""d 1777 0 0 4096 9.0 8 5 2049:2 /
f 4755 1 2 3000 9.9999999990 2 2 2049:7 /a\x20name user.a\x3db=00ff
f 644 1 2 3000 9 8 1 2049:8 /b
l 777 0 0 12 9.0 0 1 2049:9 /lnk target=to\x0aa\x5c\xff
p 600 0 0 0 9.0 0 1 2049:10 /caf\xc3\xa9
""")
    assert tree == {
        "": Entry("d", 0o1777, mtime=9),
        "a name": Entry("f", 0o4755, 1, 2, 9, 3000, inode="2049:7", holes=1976, attributes={"user.a=b": "00ff"}),
        "b": Entry("f", 0o644, 1, 2, 9, 3000),
        "lnk": Entry("l", 0o777, mtime=9, target="to\na\\\udcff"),
        "café": Entry("p", 0o600, mtime=9),
    }


@pytest.mark.parametrize(
    "line",
    ["f 644 0 0 1 1 8 1 1:2", "f 648 0 0 1 1 8 1 1:2 /x", "f 644 0 0 1 1 8 1 1:2 /x more", "sh: perl: not found"],
)
def test_what_is_no_tree_is_an_error(line: str) -> None:
    with pytest.raises(FactsError, match="a tree cannot be read"):
        parse_tree(f"{line}\n")


def test_what_opkgs_have_configured_is_known_with_who_did_it() -> None:
    found = {
        **IMAGE,
        "etc": FOLDER._replace(mode=0o777),
        "etc/passwd": FILE._replace(size=6),
        "etc/new": FILE,
        "usr/new": FILE,
    }
    del found["usr/one"], found["usr/pipe"]
    changed = dict.fromkeys(("etc", "etc/passwd", "etc/new", "usr/pipe"), "mine")
    told = {item.path: item.known for item in compare(IMAGE, found, {}, "head", (), DEB, changed)}
    assert told == {
        "etc": None,
        "etc/passwd": "mine",
        "etc/new": "mine",
        "usr/new": None,
        "usr/one": None,
        "usr/pipe": "mine",
        "usr/two": None,
    }


def test_every_known_difference_has_a_reason_and_a_place() -> None:
    known = (*KNOWN, *GUEST.known)
    assert all(row.reason and row.kinds and not row.pattern.startswith("/") for row in known)
    assert len({row.pattern for row in known}) == len(known)
    assert not any(re.fullmatch(r"\*+", row.pattern.partition("/")[0]) and "/" not in row.pattern for row in known)


def test_what_opkgs_left_is_held_against_what_they_left() -> None:
    """Nothing is passed over: neither what they brought, nor the database, nor what they took away."""
    left = FILE._replace(size=9, md5="b" * 32)
    changes = {
        "etc/new": left,
        "etc/passwd": left,
        "etc/fstab": None,
        "var/lib/dpkg/status": left,
        "var/lib/tool": FOLDER,
        "var/lib/munge": None,
    }
    image = {"": FOLDER._replace(mode=0o555), **IMAGE}
    made = as_changed(image, changes)
    now = {**image, **{path: one for path, one in changes.items() if one}}
    now = {path: one for path, one in now.items() if path not in ("etc/fstab", "var/lib/munge")}

    def wrong(found: Mapping[str, Entry], sums: dict[str, str] | None = None) -> list[tuple[str, str]]:
        return [(one.path, one.kind) for one in compare(made, found, sums or {}, "compute", GUEST.known, DEB)]

    assert wrong(now) == []
    assert wrong({**now, "var/lib/tool": FILE}) == [], "a service may do there what it likes"
    assert wrong({**now, "etc/new": FILE}) == [("etc/new", "content")]
    assert wrong(now, {"etc/passwd": "c" * 32}) == [("etc/passwd", "content")]
    assert wrong({**now, "var/lib/dpkg/status": FILE}) == [("var/lib/dpkg/status", "content")]
    assert wrong({path: one for path, one in now.items() if path != "etc/new"}) == [("etc/new", "missing")]
    assert wrong({**now, "etc/fstab": FILE}) == [("etc/fstab", "added")]
    assert as_changed(IMAGE, {}) is IMAGE
