"""A real, small Debian to try packages on: a base with systemd, and munge and ssl-cert on top, from the mirror."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.layers import stacking
from pipeline.packages.deb import layer, root
from pipeline.packages.deb.fetch import build as build_fetch
from pipeline.packages.deb.index import build as build_index
from pipeline.packages.deb.resolve import build as build_lock
from pipeline.step import Builder, Input
from tests.namespaced import job

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PARAMS = {
    "distro": "debian12",
    "suites": ["bookworm"],
    "suite": "bookworm",
    "components": ["main"],
    "architecture": "amd64",
    "keyring": str(KEYRING),
    "mirror": "",
}
PACKAGES = {"base": ["systemd-sysv", "iputils-ping", "kmod", "procps", "udev"], "top": ["munge", "ssl-cert"]}


def fetch(folder: Path) -> None:
    """Outer side: lock and fetch all packages."""
    if not KEYRING.exists():
        pytest.skip("needs debian-archive-keyring")
    index = job(folder / "index", PARAMS)
    try:
        build_index(index)
    except UserError as error:
        pytest.skip(f"no mirror: {error.message}")
    inputs = [Input("index", "", index.out, "")]
    for name, wanted in PACKAGES.items():
        asked = dict.fromkeys(wanted, "a test")
        lock = job(folder / name / "lock", {"packages": asked, "architecture": "amd64"}, *inputs)
        build_lock(lock)
        build_fetch(job(folder / name / "fetch", PARAMS, Input("lock", "", lock.out, ""), pool=folder / "pool"))
        inputs.append(Input("base", "", lock.out, ""))


def build(folder: str, number: str) -> None:
    """Inner side: the two layers."""
    place = Path(folder)
    made: list[Input] = []
    for name, builder in (("base", root.build), ("top", layer.build)):
        inputs = [Input(role, "", place / name / role / "out", "") for role in ("lock", "fetch")]
        made.append(made_layer(place / f"{name}-{number}", builder, PARAMS, *made, *inputs))


def made_layer(folder: Path, builder: Builder, params: dict[str, Any], *inputs: Input) -> Input:
    """Inner side: what a builder makes of its inputs."""
    work = job(folder, params, *inputs, pool=folder.parent / "pool")
    sandbox.scratch(work.work, 1 << 30)
    builder(work)
    return _input(folder)


def stack(folder: Path, number: str = "first") -> list[Input]:
    """The layers that were built."""
    return [_input(folder / f"{name}-{number}") for name in PACKAGES]


def _input(folder: Path) -> Input:
    file = folder / "out" / stacking.LAYER
    return Input("layer", "", file.parent, hashlib.sha256(file.read_bytes()).hexdigest())
