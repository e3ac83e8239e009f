"""A node's tree against the image's."""

from __future__ import annotations

import re

import pytest

from pipeline.checks.facts import parse_tree
from pipeline.checks.files import KNOWN, compare

IMAGE = parse_tree("d 0755 0 0 - ./etc\nf 0644 0 0 5 ./etc/fstab\nf 0644 0 0 5 ./etc/passwd\nl 0777 0 0 usr/bin ./bin\n"
                   "d 0755 0 0 - ./var/lib/munge\nf 0644 0 0 5 ./var/lib/dpkg/status\n")


def differences(node: str, sums: dict[str, str] | None = None) -> list[tuple[str, str, bool]]:
    return [(item.path, item.kind, item.known is not None) for item in compare(IMAGE, parse_tree(node), sums or {})]


def whole(*changes: tuple[str, str]) -> str:
    text = ("d 755 0 0 4096\t/etc\nf 644 0 0 5\t/etc/fstab\nf 644 0 0 5\t/etc/passwd\nl 777 0 0 usr/bin\t/bin\n"
            "d 755 0 0 4096\t/var/lib/munge\nf 644 0 0 5\t/var/lib/dpkg/status\n")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_equal() -> None:
    assert differences(whole()) == []


@pytest.mark.parametrize(("old", "new", "found"), [
    ("f 644 0 0 5\t/etc/passwd\n", "", ("etc/passwd", "missing", False)),
    ("f 644 0 0 5\t/etc/passwd", "f 644 0 0 6\t/etc/passwd", ("etc/passwd", "content", False)),
    ("f 644 0 0 5\t/etc/passwd", "l 777 0 0 /tmp/x\t/etc/passwd", ("etc/passwd", "content", False)),
    ("f 644 0 0 5\t/etc/passwd", "f 666 0 0 5\t/etc/passwd", ("etc/passwd", "metadata", False)),
    ("f 644 0 0 5\t/etc/passwd", "f 644 1 0 5\t/etc/passwd", ("etc/passwd", "metadata", False)),
    ("l 777 0 0 usr/bin\t/bin", "l 777 0 0 sbin\t/bin", ("bin", "content", False)),
    ("d 755 0 0 4096\t/etc", "d 777 0 0 4096\t/etc", ("etc", "metadata", False)),
    ("f 644 0 0 5\t/etc/fstab", "f 644 0 0 99\t/etc/fstab", ("etc/fstab", "content", True)),
    ("d 755 0 0 4096\t/var/lib/munge", "d 711 105 105 4096\t/var/lib/munge", ("var/lib/munge", "metadata", True)),
    ("f 644 0 0 5\t/var/lib/dpkg/status", "f 644 0 0 7\t/var/lib/dpkg/status",
     ("var/lib/dpkg/status", "content", False)),
])
def test_one_difference(old: str, new: str, found: tuple[str, str, bool]) -> None:
    assert differences(whole((old, new))) == [found]


def test_checksum_finds_what_size_does_not() -> None:
    assert differences(whole(), {"etc/passwd": "FAILED"}) == [("etc/passwd", "content", False)]


def test_added_files_count_in_system_folders_only() -> None:
    added = whole() + "f 644 0 0 1\t/usr/bin/new\nf 644 0 0 1\t/var/lib/new\nf 644 0 0 1\t/home/user/new\n"
    assert differences(added) == [("usr/bin/new", "added", False)]


def test_missing_fstab_is_not_known() -> None:
    assert differences(whole(("f 644 0 0 5\t/etc/fstab\n", ""))) == [("etc/fstab", "missing", False)]


def test_names_with_spaces_tabs_apart_from_links() -> None:
    tree = parse_tree("f 0644 0 0 3 ./usr/a name\nl 0777 0 0 to a name\t/usr/link\n")
    assert tree["usr/a name"].detail == "3"
    assert tree["usr/link"].detail == "to a name"


def test_every_known_difference_has_a_reason_and_a_place() -> None:
    assert all(row.reason and row.kinds and not row.pattern.startswith("/") for row in KNOWN)
    assert len({row.pattern for row in KNOWN}) == len(KNOWN)
    assert not any(re.fullmatch(r"\*+", row.pattern.partition("/")[0]) and "/" not in row.pattern for row in KNOWN)
