"""Distributions of RPM packages: where their repositories are."""

from __future__ import annotations

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests.recipes import load
from pipeline.opkgs.filters import Filter
from tests.manifests.conftest import Writer

RPM = """\
family = "rpm"
kernel = "kernel"
compat = {{ name = "rhel", version = "9" }}
packages = {{ base = ["bash"] }}
repositories = [
    {{ name = "plain", path = "plain" }},
    {{ name = "base", path = "9/BaseOS", {} }},
]
"""


def test_addresses_of_a_repository_reach_the_steps(recipes: Writer) -> None:
    metalink = "https://lists.example/m?repo=base&arch=$basearch"
    folder = recipes({"distros/r.toml": RPM.format(f'metalink = "{metalink}"')})
    found = load(folder).distro("r")
    expected = {"name": "base", "path": "9/BaseOS", "metalink": "https://lists.example/m?repo=base&arch=x86_64"}
    for params in (found.source(), found.place()):
        assert params["repositories"] == [{"name": "plain", "path": "plain"}, expected]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('url = "https://a/x", metalink = "https://b/y"', "metalink: expected only one of metalink, mirrorlist, url"),
        ('url = "https://a/x?y=z"', '"https://a/x?y=z" is no address'),
        ('url = "https://a/$releasever"', "of dnf's variables there is $basearch"),
        ('metalink = "file:///etc/list"', '"file:///etc/list" is no address'),
        ('mirrorlist = "https://a/x y"', '"https://a/x y" is no address'),
        ("url = 5", "5 is a whole number; expected text"),
    ],
)
def test_addresses_that_are_none(recipes: Writer, said: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load(recipes({"distros/r.toml": RPM.format(said)})).distro("r")
    assert caught.value.message.startswith("distros/r.toml:7: repositories[1].") and told in caught.value.message


def test_packages_for_i386_run_on_64_bit_machines(recipes: Writer) -> None:
    text = RPM.format('url = "https://a/$basearch"').replace('family = "rpm"', 'family = "rpm"\narchitecture = "i386"')
    found = load(recipes({"distros/r.toml": text})).distro("r")
    assert (found.architecture, found.hardware) == ("i386", "amd64")
    assert (found.choice()["architecture"], found.base()["architecture"]) == ("i386", "i386")
    assert found.source()["repositories"][1]["url"] == "https://a/i386"
    only = tuple(Filter((), (name,)).fits(found) for name in ("i386", "i686", "noarch", "amd64", "x86_64"))
    assert only == (True, True, True, False, False)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('architecture = "i686"', '"i686"'),
        ('architecture = "i386"\nassembler = "host-rpm"', 'assembler: expected "target-rpm"'),
        ('architecture = "i386"\nassembler = "justdb"', 'assembler: expected "target-rpm"'),
        ('architecture = "i386"\nvsyscall = true', "vsyscall: programs of i386 know no vsyscall page"),
    ],
)
def test_what_does_not_go_with_i386(recipes: Writer, said: str, told: str) -> None:
    text = RPM.format("").replace('"9/BaseOS", ', '"9/BaseOS"').replace('family = "rpm"', f'family = "rpm"\n{said}')
    with pytest.raises(ManifestError) as caught:
        load(recipes({"distros/r.toml": text})).distro("r")
    assert told in caught.value.message
