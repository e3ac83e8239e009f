"""Packages under test come on top of what is there: nothing goes for them, and what they put back is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.packages import lock
from pipeline.packages.deb import installed, under_test
from pipeline.packages.deb.stanzas import Stanza
from tests.debmirror import deb as make_deb
from tests.namespaced import inside
from tests.packages.deb import realroot

#: What must not be installed: control fields (`files` are what it brings), and what a person is told.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "rival": ({"Conflicts": "munge"}, r"rival would remove munge \S+ \(rival 1 says Conflicts: munge\)"),
    "breaker": (
        {"Breaks": "libmunge2 (<< 99)"},
        r"would remove libmunge2 \S+ \(breaker 1 says Breaks: .*; munge \S+ \(munge .* needs libmunge2",
    ),
    "libmunge2": ({}, r"libmunge2 would remove munge \S+ \(munge \S+ needs libmunge2 \(= "),
    "hostile": ({"Conflicts": "coreutils"}, r"hostile_1_all\.deb cannot be installed on top of the"),
    "heir": (
        {"Replaces": "small", "files": {"usr/share/small/data": "small 1\n"}},
        r"heir would remove small 1 \(all its files are replaced\)",
    ),
    "lost": ({"Depends": "nowhere"}, r"lost_1_all\.deb cannot be installed on top of the locked packages"),
    "foreign": ({"Architecture": "arm64"}, r"foreign_1_all\.deb failed: package architecture \(arm64\) does not"),
}


def stanza(name: str, version: str = "1", **fields: str) -> Stanza:
    said = {"Package": name, "Version": version, **fields}
    return Stanza("".join(f"{field}: {value}\n" for field, value in said.items()))


def test_reasons_are_found_in_what_packages_say() -> None:
    before = {
        one.name: one
        for one in (
            stanza("ssh", Provides="ssh-server (= 3)", Conflicts="old-ssh (<< 3)"),
            stanza("task", Depends="ssh | other, lib (>= 1)"),
            stanza("lib"),
        )
    }

    def why(name: str, *given: Stanza, gone: str = "") -> str:
        return installed.why_not(name, before, {one.name: one for one in given}, frozenset(gone.split()))

    assert why("ssh", stanza("mine", Conflicts="x, ssh-server")) == "mine 1 says Conflicts: ssh-server"
    assert why("ssh", stanza("mine", Breaks="ssh-server (<< 4)")) == "mine 1 says Breaks: ssh-server (<< 4)"
    assert why("ssh", stanza("old-ssh", "2")) == "ssh 1 says Conflicts: old-ssh (<< 3)"
    assert why("ssh", stanza("old-ssh", "3")) == ""
    assert why("task", stanza("lib", "0.5")) == "task 1 needs lib (>= 1)"
    assert why("task", gone="ssh") == "task 1 needs ssh | other"
    assert why("task", stanza("mine", Provides="other"), gone="ssh") == ""


@pytest.mark.slow
def test_nothing_goes_for_a_package_under_test(real: Path) -> None:
    make_deb(real / "below", "small")
    for name, (fields, _) in REFUSED.items():
        make_deb(real / "refused", name, **fields)
    for version in ("1", "1.1"):
        make_deb(real / f"twice/{version}", "twin", version)
    (real / "twice/broken.deb").write_bytes(b"!<arch>\nno more of it")
    inside(refuse, real)


def refuse(folder: str) -> None:
    """Inner side: each is refused, and told with who goes and why."""
    place = Path(folder)
    below = [
        *realroot.stack(place),
        realroot.made_layer(place / "lower", under_test.build, given(place / "below"), *realroot.stack(place)),
    ]
    for name, (_, message) in REFUSED.items():
        with pytest.raises(UserError, match=message) as caught:
            realroot.made_layer(
                place / f"refused-{name}",
                under_test.build,
                {"packages": [str(place / f"refused/{name}_1_all.deb")]},
                *below,
            )
        assert caught.value.hint
    with pytest.raises(UserError, match=r"twin_1_all\.deb: twin is there twice, in versions 1\.1 and 1"):
        realroot.made_layer(place / "twins", under_test.build, given(place / "twice", "*/twin*.deb"), *below)
    with pytest.raises(UserError, match=r"broken\.deb is no package that dpkg-deb can read"):
        realroot.made_layer(place / "broken", under_test.build, given(place / "twice", "broken*"), *below)


def given(folder: Path, pattern: str = "*.deb") -> dict[str, Any]:
    return {"packages": sorted(map(str, folder.glob(pattern)))}


@pytest.mark.slow
def test_what_goes_back_is_told(real: Path) -> None:
    make_deb(real / "first", "munged", "2")
    make_deb(real / "first", "same", "2")
    make_deb(real / "first", "grows", "2")
    for name, version in (("munged", "1~rc1"), ("same", "2"), ("grows", "2.1")):
        make_deb(real / "second", name, version)
    said = inside(go_back, real)
    assert "munged 1~rc1 under test: an earlier version is installed over 2\n" in said
    assert "same 2 under test: the same version is installed over 2\n" in said
    assert "grows" not in said


def go_back(folder: str) -> None:
    """Inner side: packages, and the same ones in other versions on top."""
    place = Path(folder)
    stack = realroot.stack(place)
    for name in ("first", "second"):
        stack.append(realroot.made_layer(place / f"back-{name}", under_test.build, given(place / name), *stack))
    # what a machine is held against
    assert lock.read_versions(stack[-1].file(lock.VERSIONS))["munged"] == "1~rc1"
