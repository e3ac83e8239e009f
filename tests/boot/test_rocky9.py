"""A whole cluster of RPM packages, from the recipe that people have and a fixture in the shape of its distribution."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.packages import lock
from tests import rpmsuite
from tests.boot import checkout, latecomers
from tests.boot.checkout import Checkout
from tests.boot.test_cluster import processes_of
from tests.fixture import build

pytestmark = pytest.mark.boot

NAME = "rocky9"
#: A package that somebody works on.
UNDER_TEST = "mytool"
#: What differs from its package on a healthy node: its users, what OPKGs and scripts of packages have set, and a list
#: of modules that costs a service.
EXPLAINED = {
    "/etc/chrony.conf",
    "/etc/group",
    "/etc/gshadow",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/modules-load.d/modules.conf",
    "/etc/munge",
    "/etc/openmpi-x86_64/openmpi-default-hostfile",
    "/etc/openmpi-x86_64/openmpi-mca-params.conf",
    "/usr/bin/ping",
    "/var/lib/chrony",
    "/var/lib/munge",
    "/var/log/munge",
}


LONG = pytest.mark.skipif(
    os.environ.get("XEN_OSCAR_LONG_TESTS") != "1",
    reason="takes two to six minutes: XEN_OSCAR_LONG_TESTS=1 ./bootstrap pytest tests/boot/test_rocky9.py",
)


def fixture(mirror: Path, pool: Path) -> None:
    build.rocky(mirror, pool)
    latecomers.publish(mirror, "9/AppStream/x86_64/os")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, artifacts: Path) -> Iterator[Checkout]:
    """A checkout that knows the fixture; its cluster has one node, since a second one would show nothing more."""
    tool = rpmsuite.make(tmp_path_factory.mktemp("under-test")).rpm(UNDER_TEST, "2")
    recipe = f'[compute]\ncount = 1\n[packages]\ncompute = ["{tool}"]\n'
    made = checkout.of_fixture(tmp_path_factory.mktemp("rocky9"), artifacts, NAME, fixture, recipe)
    yield made
    made.remove()


@pytest.fixture(scope="module")
def running(project: Checkout) -> Iterator[Checkout]:
    """The verified cluster."""
    try:
        run = project.doit(f"cluster:{NAME}", "--fresh")
        assert run.status == 0, run.output
        yield project
    finally:
        assert project.doit(f"stop:{NAME}").status == 0
        assert processes_of(project.own / "run" / NAME) == []


def test_all_that_its_machines_are_made_of_is_built(project: Checkout) -> None:
    run = project.doit(f"image:{NAME}", f"disk:{NAME}/head", f"headnode:{NAME}")
    assert run.status == 0, run.output
    versions = lock.read_versions(project.own / NAME / "localpackages-compute" / "files" / lock.VERSIONS)
    assert versions == {UNDER_TEST: "2-1"}


@LONG
def test_it_passes_the_same_checks_and_runs_a_job(running: Checkout) -> None:
    verdict = json.loads((running.own / f"reports/{NAME}/verdict.json").read_text())
    assert verdict["outcome"] == "passed"
    names = {result["name"] for result in verdict["results"]}
    assert {
        "packages",
        "image files",
        "disk files",
        "services",
        "kernel",
        "opkg slurm test_user",
        "opkg openmpi test_user",
        "opkg ntpconfig test_root",
    } <= names


@LONG
def test_the_suites_own_rpm_lists_what_was_locked_and_explains_the_rest(running: Checkout) -> None:
    listed = running.ssh(NAME, "node1", "RPM_FORCE_DEBIAN=1 rpm -qa --qf '%{NAME}\\n' 2>/dev/null").split()
    locked = {
        package.name
        for name in ("lock", "lock-compute")
        for package in lock.read(running.own / NAME / name / "files" / lock.NAME)
    }
    assert sorted(listed) == sorted({*locked, UNDER_TEST})
    different = running.ssh(NAME, "node1", "RPM_FORCE_DEBIAN=1 rpm -Va 2>/dev/null || :").splitlines()
    assert {line.split()[-1] for line in different} <= EXPLAINED, different


@LONG
def test_an_opkg_comes_and_goes(running: Checkout) -> None:
    """Last, for such a cluster is not that of its recipe any more."""
    latecomers.come_and_go(running, NAME)
