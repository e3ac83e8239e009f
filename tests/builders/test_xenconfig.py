"""Configurations for Xen, read by the real libxl: what we write is accepted, what is wrong is told with its line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.builders import domains, xenconfig
from pipeline.drivers import site, xl_config
from pipeline.drivers.domain import Domain, Kernel
from pipeline.errors import BuildError
from pipeline.layers.stacking import LAYER
from pipeline.step import Input, Job
from tests.drivers.test_xen import model, variants
from tests.namespaced import inside, job
from tests.samples import cluster

ROOT = Path(__file__).resolve().parents[2]
DISTROS = ("debian12", "debian13")


@pytest.fixture(scope="session")
def xltools() -> None:
    """Xen's tools, made as every run makes them; nothing is done where they are up to date."""
    done = subprocess.run(
        [sys.executable, "-m", "doit", *(f"xltools:{name}" for name in DISTROS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


needs_xltools = pytest.mark.usefixtures("xltools")


def a_job(folder: Path, distro: str, params: dict[str, Any] | None = None) -> Job:
    files = ROOT / "artifacts" / distro / "xltools/files"
    digest = hashlib.sha256((files / LAYER).read_bytes()).hexdigest()
    return job(folder, params, Input("toolroot", f"xltools:{distro}", files, digest), pool=ROOT / "artifacts/pool")


def check(folder: Path, distro: str, models: dict[str, Domain], old: str = "", new: str = "") -> Job:
    """Inner side: have our configurations checked, with one text in all of them replaced."""
    work = a_job(folder, distro)
    for name, domain in models.items():
        text = xl_config.render(domain)
        assert old in text
        (work.out / f"{name}.cfg").write_text(text.replace(old, new, 1))
    xenconfig.check(work, models)
    return work


def accept(folder: str, distro: str) -> None:
    """Inner side: one domain of each kind, and command lines that are hard to write down."""
    models = {str(number): one for number, one in enumerate(variants())}
    for number, arguments in enumerate(("a='b c' d", 'a="b c" d', "a\\b\\\\n,[#] x", "\xe4")):
        models[f"quotes{number}"] = dataclasses.replace(model(), bootloader="", kernel=Kernel("/k", "/i", arguments))
    work = check(Path(folder), distro, models)
    assert len(list(work.out.iterdir())) == 2 * len(models)


@needs_xltools
@pytest.mark.parametrize("distro", DISTROS)
def test_libxl_understands_what_we_write(tmp_path: Path, distro: str) -> None:
    inside(accept, tmp_path, distro)


def build(folder: str) -> None:
    """Inner side: the builder."""
    for name in ("head", "node1"):
        params = {"cluster": "one", "architecture": "amd64", "machine": cluster("one").machine(name).to_json()}
        xenconfig.build(a_job(Path(folder) / name, "debian12", params))


@needs_xltools
def test_the_builder_keeps_what_libxl_understood_beside_each_configuration(tmp_path: Path) -> None:
    inside(build, tmp_path)
    for machine, names in {"head": ["run"], "node1": ["run", "install"]}.items():
        out = tmp_path / machine / "out"
        assert sorted(path.name for path in out.iterdir()) == sorted(
            f"{name}.{kind}" for name in names for kind in ("cfg", "json")
        )
        models: dict[str, Domain] = dict(
            domains.of("one", "amd64", cluster("one").machine(machine), "xen", site.shared("one")).items()
        )
        for name in names:
            data = json.loads((out / f"{name}.json").read_text())
            assert xl_config.understood(data) == xl_config.expected(models[name])


def refuse(folder: str, old: str, new: str) -> None:
    """Inner side: what is said about a configuration with a mistake."""
    made = dataclasses.replace(model(pci=("0000:03:00.0",)), bootloader="", kernel=Kernel("/k", "/i", "quiet"))
    try:
        check(Path(folder), "debian12", {"node1": made}, old, new)
    except BuildError as error:
        print(error.message)


@needs_xltools
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # libxl refuses these
        ("vcpus = 1", "vcpus = = 1", r"node1\.cfg:4: config parsing error near `=': syntax error"),
        ('"destroy"\non_reboot', '"destroy\non_reboot', r"node1\.cfg:12: "),
        ('"quiet"', '"quiet\\x22"', r"node1\.cfg:8: config parsing error near .*invalid digit"),
        ("access=rw", "access=rwx", r"node1\.cfg:9: .*unknown value for access: near `rwx'"),
        ("format=raw", "format=floppy", r"node1\.cfg:9: .*unknown value for format"),
        ('on_crash = "destroy"', 'on_crash = "destry"', r'node1\.cfg:14: Unknown on_crash action "destry" specified'),
        ('type = "pv"', 'type = "vp"', r"node1\.cfg:5: Invalid domain type vp"),
        ("0000:03", "zz:03", r"node1\.cfg:11: unable to parse PCI_SPEC_STRING"),
        ('name = "one-node1"\n', "", r"node1\.cfg:1: "),
        # and takes these for something else
        ("memory = 384", "memroy = 384", r"node1\.cfg:1: memory: libxl understood .*expected \(393216, 393216\)"),
        ("memory = 384", "memory = 385", r"node1\.cfg:3: memory: libxl understood \(394240, 394240\)"),
        ("one-node1", "one-node2", r"node1\.cfg:1: name: libxl understood 'one-node2', expected 'one-node1'"),
        ("access=rw", "access=ro", r"node1\.cfg:9: disk: "),
        ("vdev=xvda", "vdev=xvdb", r"node1\.cfg:9: disk: "),
        ("target=", "target=/other", r"node1\.cfg:9: disk: "),
        ("mac=52", "mac=54", r"node1\.cfg:10: vif: "),
        ("0000:03", "0000:04", r"node1\.cfg:11: pci: "),
        ('kernel = "/k"', 'kernel = "/l"', r"node1\.cfg:6: kernel: "),
        ('cmdline = "quiet"', 'cmdline = "\\042"', r"node1\.cfg:8: cmdline: "),
        ('on_reboot = "restart"', 'on_reboot = "preserve"', r"node1\.cfg:13: on_reboot: "),
    ],
    ids=lambda text: re.sub(r"\W+", "-", text)[:30],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    said = inside(refuse, tmp_path, old, new)
    assert re.match(told, said), said


def test_without_any_tools_the_reason_is_clear(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no distribution names the packages of Xen's tools") as caught:
        xenconfig.check(job(tmp_path), {})
    assert "recipes/distros" in caught.value.hint
