"""Distributions of RPM packages: where their repositories are."""

from __future__ import annotations

import pytest

from pipeline.errors import ManifestError
from pipeline.manifests.recipes import load
from pipeline.opkgs.filters import Filter
from tests.manifests.conftest import DISTRO, Writer

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

#: What has the form of an address.
NOWHERE = ["https://[/x", "https://[::1/x", "https://a:b:c/x", "https://a:99999/x", "https://a:0/x", "https://:80/x"]


def test_addresses_of_a_repository_reach_the_steps(recipes: Writer) -> None:
    metalink = "https://lists.example/m?repo=base&arch=$basearch"
    folder = recipes({"distros/r.toml": RPM.format(f'metalink = "{metalink}"')})
    found = load(folder).distro("r")
    expected = {"name": "base", "path": "9/BaseOS", "metalink": "https://lists.example/m?repo=base&arch=x86_64"}
    for params in (found.source(), found.place()):
        assert params["repositories"] == [{"name": "plain", "path": "plain"}, expected]


@pytest.mark.parametrize("family", ["deb", "rpm"])
@pytest.mark.parametrize("url", NOWHERE)
def test_mirrors_that_are_nowhere(recipes: Writer, family: str, url: str) -> None:
    text = RPM.format('url = "https://a/x"') if family == "rpm" else DISTRO
    with pytest.raises(ManifestError) as caught:
        load(recipes({"distros/r.toml": text + f'mirror = "{url}"\n'})).distro("r")
    assert f'mirror: "{url}" is not a mirror' in caught.value.message


@pytest.mark.parametrize(
    "path", ["", "/", "etc/x", "/etc/", "/etc//x", "/etc/../x", "/./x", "/dev/x", "/tmp", "/a\\u0007"]
)
def test_places_that_no_root_has(recipes: Writer, path: str) -> None:
    """What is not there when packages are installed, or would be lost."""
    said = RPM.format('url = "https://a/x"') + f'database = "{path}"\n[files]\n"/etc/fstab" = ""\n"{path}" = "text"\n'
    with pytest.raises(ManifestError) as caught:
        load(recipes({"distros/r.toml": said})).distro("r")
    told = caught.value.message.splitlines()
    assert [line.split(" ")[0] for line in told] == ["distros/r.toml:9:", "distros/r.toml:12:"]
    assert all("is no place in a root file system" in line for line in told)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('url = "https://a/x", metalink = "https://b/y"', "metalink: expected only one of metalink, mirrorlist, url"),
        ('url = "https://a/x?y=z"', '"https://a/x?y=z" is no address'),
        ('url = "https://a/$releasever"', "of dnf's variables there is $basearch"),
        ('metalink = "file:///etc/list"', '"file:///etc/list" is no address'),
        ('mirrorlist = "https://a/x y"', '"https://a/x y" is no address'),
        *((f'url = "{url}"', f'"{url}" is no address') for url in NOWHERE),
        *((f'metalink = "{url}?a=b"', '?a=b" is no address') for url in NOWHERE),
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
