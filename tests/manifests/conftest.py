"""A small recipes folder to try things in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("manifests", deadline=None)  # a busy machine is no mistake of ours
settings.load_profile("manifests")

DISTRO = """\
family = "deb"
suite = "bookworm"
suites = ["bookworm", "bookworm-updates"]
keyring = "/usr/share/keyrings/some.gpg"
kernel = "linux-image-amd64"
compat = { name = "debian", version = "12" }
packages = { base = ["systemd"] }
"""

OPKG = """\
<oscar>
  <name>{name}</name>
  <class>{kind}</class>
  <summary>An OPKG to try things with</summary>
  <license>GPL</license>
  <group>Test</group>
  {more}
  <changelog><versionEntry version="{version}"/></changelog>
</oscar>
"""


def opkg_text(name: str, more: str = "", *, kind: str = "included", version: str = "1.0-1") -> str:
    """A config.xml of generation 3."""
    return OPKG.format(name=name, kind=kind, more=more, version=version)


FILES = {
    "distros/debian12.toml": DISTRO,
    "hosts/local.toml": 'kind = "qemu"\n',
    "netboot/amd64.toml": 'distro = "debian12"\npackages = ["busybox-static"]\n',
    "opkgs/sis/config.xml": opkg_text("sis", kind="core"),
    "opkgs/base/config.xml": opkg_text("base", kind="core"),
    "opkgs/munge/config.xml": opkg_text("munge"),
    "opkgs/slurm/config.xml": opkg_text("slurm", "<requires><pkg>munge</pkg></requires>"),
}


@dataclass(frozen=True)
class Compat:
    name: str
    version: str


@dataclass(frozen=True)
class Target:
    compat: Compat
    architecture: str


def target(name: str, version: str, architecture: str = "amd64") -> Target:
    return Target(Compat(name, version), architecture)


Writer = Callable[[dict[str, str]], Path]


def write_recipes(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {**FILES, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Writes a recipes folder with more files than the usual ones; messages name paths below it."""

    def write(files: dict[str, str]) -> Path:
        write_recipes(tmp_path, files)
        monkeypatch.chdir(tmp_path)
        return Path()

    return write
