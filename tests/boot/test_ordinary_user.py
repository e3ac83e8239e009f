"""Everything as an ordinary user: the same artifacts as root's, and a cluster that passes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.boot import hostile
from tests.boot.checkout import Checkout

pytestmark = pytest.mark.boot

#: Debian 13, as all else is Debian 12.
CLUSTER = 'extends = "debian13"\n[compute]\ncount = 1\n'
ARTIFACTS = (
    "root:debian13",
    "initrd:debian13",
    "netboot:amd64",
    "bootloader:amd64",
    "headnode:both",
    "image:both",
    "disk:both/head",
    "definition:both/head",
    "definition:both/node1",
)


def digest(project: Checkout, task: str) -> str:
    kind, _, name = task.partition(":")
    first, *rest = name.split("/")
    entry = project.own / first / "-".join([kind, *rest])
    return str(json.loads((entry / "manifest.json").read_text())["digest"])


def test_a_user_builds_the_same_as_root_and_runs_it(users_project: Checkout, project: Checkout) -> None:
    for one in (users_project, project):
        one.write_cluster("both", CLUSTER)
    # one right after the other, as an hour later the mirror may have newer packages
    roots = project.doit(*ARTIFACTS)
    assert roots.status == 0, roots.output
    bootstrapped = users_project.run(["./bootstrap", "true"])
    assert bootstrapped.returncode == 0, bootstrapped.stderr
    try:
        users = users_project.doit("cluster:both", "headnode:both")
        assert users.status == 0, users.output
        for task in ARTIFACTS:
            assert digest(users_project, task) == digest(project, task), task
        verdict = json.loads((users_project.own / "reports/both/verdict.json").read_text())
        assert verdict["outcome"] == "passed"
        namespace = Path("/proc", (users_project.own / "run/both/init.pid").read_text().split()[0])
        assert namespace.stat().st_uid != 0
        frozen = users_project.run(users_project.command("freeze", "both"))
        assert frozen.returncode == 0, frozen.stderr
        tried = users_project.run(users_project.command("test", "both", "--", "ssh node1 hostname"))
        assert (tried.returncode, tried.stdout) == (0, "node1\n"), tried.stderr
    finally:
        stopped = users_project.doit("stop:both")
        assert stopped.status == 0, stopped.output
        assert not (users_project.own / "run/both/init.pid").exists()
    with hostile.outside(users_project, "debian13") as outside:
        outside.assert_untouched()
