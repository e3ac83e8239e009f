"""Whatever stands in a recipe: it makes a whole cluster, or it is a ManifestError, and never a traceback."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.builders import layout
from pipeline.errors import ManifestError
from pipeline.manifests.recipes import load
from pipeline.opkgs import config
from pipeline.opkgs.model import packages
from tests.manifests.conftest import opkg_text, target, write_recipes

DISTRO = target("fc", "4", "i386")
LINE = re.compile(r"[^\n]+:\d+: [^\n]+")

GOOD = """\
distro = "debian12"
opkgs = ["slurm"]
[head]
memory = "512M"
disk = "4G"
filesystems = [{ mount = "/", size = "3G" }, { mount = "swap", size = "fill" }]
[networks.private]
cidr = "10.1.0.0/24"
first_node = "10.1.0.9"
[xen.machines.node1]
type = "pv"
device = "/dev/vg0/node1"
pci = ["03:00.0"]
"""

words = st.sampled_from(
    [
        "distro",
        "extends",
        "opkgs",
        "head",
        "compute",
        "networks",
        "private",
        "public",
        "packages",
        "name",
        "memory",
        "cpus",
        "disk",
        "filesystems",
        "mount",
        "size",
        "prefix",
        "count",
        "cidr",
        "host",
        "first_node",
        "mac_prefix",
        "domain",
        "xen",
        "machines",
        "node1",
        "type",
        "boot",
        "device",
        "pci",
        "x y",
        "",
    ]
)
texts = st.one_of(
    st.sampled_from(
        [
            "debian12",
            "c",
            "local",
            "slurm",
            "512M",
            "2G",
            "fill",
            "/",
            "swap",
            "10.1.0.0/24",
            "10.1.0.1",
            "node",
            "00:16:3e",
            "../x.deb",
            "pv",
            "hvm",
            "kernel",
            "/dev/sdb",
            "03:00.0",
        ]
    ),
    st.text(max_size=12),
)
scalars = st.one_of(texts, st.integers(-(2**70), 2**70), st.floats(), st.booleans(), st.dates(), st.times())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=8,
)


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str | bool):
        return json.dumps(value)
    return str(value) if isinstance(value, int | float) else value.isoformat()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        write_recipes(Path(name), {"clusters/c.toml": GOOD})
        yield Path(name)


def survives(folder: Path, raw: bytes) -> None:
    (folder / "clusters" / "c.toml").write_bytes(raw)
    recipes = load(folder)
    try:
        manifest = recipes.cluster("c")
    except ManifestError as error:
        assert all(LINE.fullmatch(line) for line in error.message.split("\n")), error.message
        error.render().encode()
    else:
        cluster = recipes.describe("c")
        assert len(cluster.nodes) == manifest.compute.count
        assert all(layout.of(machine).mounts for machine in cluster.machines)


@given(st.binary(max_size=80))
def test_any_bytes(folder: Path, raw: bytes) -> None:
    survives(folder, raw)


@given(st.dictionaries(words, values, max_size=5))
def test_any_values(folder: Path, data: dict[str, Any]) -> None:
    pairs = {"distro": "debian12", **data}
    survives(folder, "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in pairs.items()).encode())


@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.one_of(texts, st.sampled_from('"[]{}=,.\n#')))
def test_any_change_of_a_good_one(folder: Path, at: int, length: int, text: str) -> None:
    survives(folder, (GOOD[:at] + text + GOOD[at + length :]).encode())


XML = opkg_text(
    "app",
    """<serverDeps><requires><filters><dist version="4" rel=">=">fc</dist><arch>i386</arch></filters>
  <pkg version="1">a</pkg></requires></serverDeps>""",
)
PIECES = st.sampled_from(
    [
        "<",
        ">",
        "&",
        "&#0;",
        "&#55296;",
        "&lt;",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<!DOCTYPE x>",
        "<rpmlist>",
        "</rpmlist>",
        "<filter/>",
        "<version/>",
        "<pkg>",
        "</pkg>",
        'version="',
        "<?x?>",
        '<?xml version="1.0" encoding="utf-16"?>',
        "\u0000",
    ]
)


def opkg_survives(folder: Path, raw: bytes) -> None:
    (folder / "app").mkdir(exist_ok=True)
    (folder / "app" / "config.xml").write_bytes(raw)
    try:
        found = config.read(folder / "app" / "config.xml")
    except ManifestError as error:
        assert all(LINE.fullmatch(line) for line in error.message.split("\n")), error.message
    else:
        packages(found, "server", DISTRO)


@given(st.integers(0, len(XML)), st.integers(0, 30), st.one_of(PIECES, st.text(max_size=10)))
def test_any_change_of_a_config_xml(folder: Path, at: int, length: int, text: str) -> None:
    opkg_survives(folder, (XML[:at] + text + XML[at + length :]).encode("utf-8", "surrogatepass"))


@given(st.one_of(st.binary(max_size=60), st.text(max_size=30).map(lambda text: text.encode("utf-16"))))
def test_any_bytes_as_config_xml(folder: Path, raw: bytes) -> None:
    opkg_survives(folder, raw)
