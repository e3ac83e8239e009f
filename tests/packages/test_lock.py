"""Locks of any family: versions are taken apart and put together without a loss, and what is written is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.packages import lock
from pipeline.packages.lock import LockedPackage

#: deb-version(7) and rpm-version(7): both may have hyphens and tildes in the middle.
VERSIONS = {
    "1.0": ("", "1.0", ""),
    "2:1.0+b1": ("2", "1.0+b1", ""),
    "0:1.0-1": ("0", "1.0", "1"),
    "1:9.2p1-2+deb12u3": ("1", "9.2p1", "2+deb12u3"),
    "1.2-rc1-3~bpo": ("", "1.2-rc1", "3~bpo"),
    "2.3.5-10.3.fc4": ("", "2.3.5", "10.3.fc4"),
    "20040823": ("", "20040823", ""),
    "1.2-": ("", "1.2-", ""),
}


@pytest.mark.parametrize("evr", VERSIONS)
def test_a_version_is_its_parts(evr: str) -> None:
    assert lock.parts(evr) == VERSIONS[evr]
    package = LockedPackage("one", *lock.parts(evr), "all", "main", "pool/one.deb", 1, "0" * 64, "")
    assert package.evr == evr


def test_what_is_written_is_read_sorted(tmp_path: Path) -> None:
    first = LockedPackage("one", "", "1", "2", "all", "main", "pool/o/one_1-2_all.deb", 7, "0" * 64, "Package: one\n")
    second = dataclasses.replace(first, name="two", architecture="amd64")
    lock.write(tmp_path / lock.NAME, [second, first])
    assert lock.read(tmp_path / lock.NAME) == [first, second]
    assert first.file == "one_1-2_all.deb"
    assert json.loads((tmp_path / lock.NAME).read_text())["packages"][0]["text"] == "Package: one\n"


def test_a_package_for_several_architectures_has_all_of_their_versions() -> None:
    one = LockedPackage("one", "", "1", "2", "x86_64", "main", "one.rpm", 1, "0" * 64, "")
    packages = [one, dataclasses.replace(one, architecture="i686", version="0"), dataclasses.replace(one, name="other")]
    assert lock.versions(packages) == {"one": "0-2 1-2", "other": "1-2"}
