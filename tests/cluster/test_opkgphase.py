"""What OPKGs change on a cluster that is up is written down, and known to verification."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.cluster import opkgphase
from pipeline.cluster.opkgphase import OpkgPhases, configured
from pipeline.errors import ClusterError
from pipeline.report.model import Phase
from pipeline.shell import ClusterShell
from tests import samples

FILES = {"opkgs/tool/scripts/post_clients", "opkgs/other/scripts/api-post-deploy", "opkgs/tool/scripts/setup"}


class Shell:
    """Runs scripts here, with the head node's folders below another one."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opened = 0

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        self.opened += 1
        yield

    def run(self, machine: str, script: str, *, timeout: float) -> tuple[int, str, str]:
        for place in ("/etc", "/var/lib/xen-oscar", "/usr/lib/oscar"):
            script = script.replace(place, f"{self.root}{place}")
        done = subprocess.run(["sh", "-s"], input=script, capture_output=True, text=True, timeout=timeout, check=False)
        return done.returncode, done.stdout.replace(str(self.root), ""), done.stderr


class Head:
    """A head node's folders, and the OPKGs on it."""

    def __init__(self, folder: Path) -> None:
        self.shell = Shell(folder / "root")
        self.root = self.shell.root
        self.run_dir = folder
        for place in ("etc/sub", "var/lib/xen-oscar/overrides/compute/etc"):
            (self.root / place).mkdir(parents=True)
        for name in ("kept", "changed", "sub/gone"):
            (self.root / "etc" / name).write_text("x")
        self.phases: list[Phase] = []

    def script(self, opkg: str, phase: str, text: str) -> None:
        path = self.root / f"usr/lib/oscar/packages/{opkg}/scripts/{phase}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\nroot={self.root}\n{text}\n")
        path.chmod(0o755)

    def run(self, when: Any) -> None:
        cluster = dataclasses.replace(samples.cluster("demo"), opkgs=("other", "tool"))
        OpkgPhases(cluster, FILES, self.run_dir, self.phases.append).run(
            when, cast(ClusterShell, self.shell), patience=1
        )


@pytest.fixture
def head(tmp_path: Path) -> Head:
    return Head(tmp_path)


def test_what_a_script_changes_is_known_by_its_name(head: Head) -> None:
    head.script(
        "tool",
        "api-post-clientdef",
        """
echo y > "$root/etc/changed"; echo new > "$root/etc/sub/new"; rm "$root/etc/sub/gone"; echo said
touch -d @0 "$root/etc/changed"
echo conf > "$root/var/lib/xen-oscar/overrides/compute/etc/tool.conf" """,
    )
    head.run("head up")
    by = "api-post-clientdef of OPKG tool"
    found = configured(head.run_dir)
    assert found["head"] == dict.fromkeys(("etc/changed", "etc/sub", "etc/sub/new", "etc/sub/gone"), by)
    assert found["compute"] == dict.fromkeys(("etc", "etc/tool.conf"), by)
    assert [phase.name for phase in head.phases] == ["tool api-post-clientdef"]


def test_only_what_has_its_place_now_runs_and_nobody_is_asked_for_nothing(head: Head) -> None:
    head.script("other", "api-post-deploy", "echo deployed > $root/etc/deployed")
    head.run("all up")
    assert (head.root / "etc/deployed").exists()
    head.run("removed")
    assert head.shell.opened == 1
    assert set(configured(head.run_dir)["head"].values()) == {"api-post-deploy of OPKG other"}


def test_a_script_that_fails_is_told_with_what_it_said(head: Head) -> None:
    head.script("tool", "api-post-clientdef", 'echo "no license for $OSCAR_MEMBERSHIP $OSCAR_HOME" >&2; exit 3')
    with pytest.raises(ClusterError, match="head: api-post-clientdef of OPKG tool ended with status 3") as caught:
        head.run("head up")
    assert caught.value.tail == f"no license for head {head.root}/usr/lib/oscar"
    assert caught.value.log == head.run_dir / "opkgs.log"
    assert "api-post-clientdef of OPKG tool, status 3\nno license" in caught.value.log.read_text()


def test_what_a_script_changed_before_it_failed_is_known_when_it_has_been_repeated(head: Head) -> None:
    head.script("tool", "api-post-clientdef", "[ -e $root/etc/once ] || { echo x > $root/etc/once; exit 1; }")
    with pytest.raises(ClusterError, match="status 1"):
        head.run("head up")
    head.run("head up")
    assert "etc/once" in configured(head.run_dir)["head"]


def test_what_a_script_changed_for_a_run_that_was_ended_is_known_to_the_next_one(head: Head) -> None:
    head.script("tool", "api-post-clientdef", "true")
    listed = subprocess.run(
        ["find", head.root / "etc", head.root / "var/lib/xen-oscar/overrides", "-printf", "%C@ %p\\n"],
        capture_output=True,
        check=True,
    ).stdout.splitlines(keepends=True)
    (head.root / "var/lib/xen-oscar/before-tool-api-post-clientdef").write_bytes(b"".join(sorted(listed)))
    (head.root / "etc/meanwhile").touch()
    head.run("head up")
    assert "etc/meanwhile" in configured(head.run_dir)["head"]
    assert [path.name for path in (head.root / "var/lib/xen-oscar").iterdir()] == ["overrides"]


def test_a_script_does_not_read_what_is_meant_for_the_shell(head: Head) -> None:
    head.script("tool", "api-post-clientdef", "cat > $root/etc/read")
    head.run("head up")
    assert (head.root / "etc/read").read_text() == ""
    assert "etc/read" in configured(head.run_dir)["head"]


def test_names_are_those_of_the_image_or_of_a_node(tmp_path: Path) -> None:
    assert configured(tmp_path) == {"head": {}, "compute": {}}
    opkgphase._note(
        tmp_path,
        "x",
        "/etc/a\n/srv/b\n/etc\n/var/lib/xen-oscar/overrides/compute/etc/c\n/var/lib/xen-oscar/overrides/node1/etc/d\n",
    )
    opkgphase._note(tmp_path, "x", "/etc/e\n")
    found = configured(tmp_path)
    assert set(found["head"]) == {"etc/a", "etc/e"}
    assert set(found["compute"]) == {"etc/c", "etc/d"}
