"""The file in which a person keeps where packages are."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests import mirrors
from pipeline.packages import given

DISTROS = ("fc4", "rocky9")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in DISTROS:
        monkeypatch.setenv(given.variable_of(name), "")
        (tmp_path / "recipes/distros").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"recipes/distros/{name}.toml").touch()
    monkeypatch.setenv("HOME", "/home/me")
    return tmp_path / given.SETTINGS


def test_places_are_given_to_steps(file: Path) -> None:
    mirrors.take(file.parent)
    assert given.places_of("fc4") == []
    file.write_text('fc4 = ["discs/FC 4.iso", "~/rpms", "https://mirror.example/x"]\nrocky9 = "/srv/rocky9"\n')
    mirrors.take(file.parent)
    disc = f"{file.parent.as_uri()}/discs/FC%204.iso"
    assert given.places_of("fc4") == [disc, "file:///home/me/rpms", "https://mirror.example/x"]
    assert given.places_of("rocky9") == ["file:///srv/rocky9"]


def test_the_environment_and_the_command_go_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('fc4 = "/srv/a"\nrocky9 = "/srv/b"\n')
    monkeypatch.setenv(given.variable_of("fc4"), "/srv/other")
    given.give("rocky9", ["/srv/command"])
    mirrors.take(file.parent)
    assert [given.places_of(name) for name in DISTROS] == [["file:///srv/other"], ["file:///srv/command"]]


def test_a_mistake_stops_those_alone_who_would_read_it(file: Path) -> None:
    file.write_text('fc4 = ["/srv/a", 5]\nrokcy9 = "/srv/b"\nother = "/srv/c"\n')
    for distro, told in (("fc4", r":1: fc4\[1\]: 5 is no place"), ("rocky9", ':2: rokcy9: no such .* mean "rocky9"?')):
        with pytest.raises(ManifestError, match=told) as caught:
            mirrors.take(file.parent, distro)
        assert len(caught.value.message.splitlines()) == 1
    file.write_text('fc4 = ["/srv/a", 5]\nrokcy9 = "/srv/b"\nother = "/srv/c"\nrocky9 = "/srv/d"\n')
    mirrors.take(file.parent, "rocky9")
    assert [given.places_of(name) for name in DISTROS] == [[], ["file:///srv/d"]]
    with pytest.raises(ManifestError) as caught:
        mirrors.take(file.parent)
    assert len(caught.value.message.splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('\nfc5 = "/x"', ':2: fc5: no such distribution; expected one of fc4, rocky9; did you mean "fc4"?'),
        ("fc4 = 5", ":1: fc4: 5 is no place; expected text"),
        ("fc4 = []", ":1: fc4: the list is empty"),
        ('fc4 = [\n"/a",\n"ftp://b"]', ":3: fc4[1]: ftp://b is no mirror; expected a folder"),
        ('[fc4]\nurl = "/x"', ":1: fc4: "),
        ("fc4 = /x", ":1: this is not TOML"),
        ('fc4 = ""', ':1: fc4: "" is no place'),
    ],
)
def test_mistakes_are_told_with_their_line(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    with pytest.raises(ManifestError) as caught:
        mirrors.take(file.parent)
    assert f"{given.SETTINGS}{told}" in caught.value.message
