"""doctor: each check on this host and on ones where something is wrong; what the command prints, and its status."""

from __future__ import annotations

import email.utils
import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline.doctor as doctor
from pipeline import confine, sandbox
from pipeline.doctor import Finding, Surroundings, host, isolation, network
from pipeline.errors import UserError
from pipeline.hosts import obstacles
from pipeline.run import Completed
from pipeline.virt import accelerator

TOP = Path(__file__).resolve().parents[2]
GIB = 1 << 30


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    shutil.copytree(TOP / "recipes", tmp_path / "recipes")
    (tmp_path / "artifacts").mkdir()
    for recipe in (tmp_path / "recipes/distros").glob("*.toml"):  # the others' mirrors are out in the world
        if not recipe.name.startswith("debian"):
            recipe.unlink()
    return Surroundings(tmp_path / "recipes", tmp_path / "artifacts")


def failing(text: str) -> Any:
    """Something in place of `run` that fails with those words."""
    return lambda argv, **_: Completed(tuple(argv), 1, "", f"first line\n{text}\n")


# --- this host, on which the tests run clusters


@pytest.mark.parametrize(
    "check",
    [
        host.check_modules,
        host.check_programs,
        host.check_memory,
        host.check_artifacts,
        isolation.check_limits,
        isolation.check_namespaces,
        isolation.check_overlay,
        isolation.check_bridge,
        isolation.check_32_bit,
    ],
)
def test_this_host_can_do_the_main_job(check: doctor.Check, here: Surroundings) -> None:
    finding = check(here)
    assert finding.level != "fail", finding.text()
    assert not list(here.artifacts.iterdir()), "it leaves nothing behind"


# --- permissions


def test_obstacle_of_starting_a_cluster_is_told_as_it_is(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obstacles, "find", lambda: UserError("no tun", hint="modprobe tun"))
    assert isolation.check_limits(here) == Finding("permissions", "fail", "no tun", "modprobe tun")


def test_container_that_forbids_namespaces(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "run", failing("unshare: unshare failed: Operation not permitted"))
    monkeypatch.setattr(isolation, "in_container", lambda: True)
    finding = isolation.check_namespaces(here)
    assert (finding.level, finding.words) == ("fail", "unshare: unshare failed: Operation not permitted")
    assert "--cap-add SYS_ADMIN" in finding.hint


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        ("disk\nmemory\n", "ok", "work on the disk and in memory"),
        ("memory\n", "warn", "not in"),
        ("disk\n", "warn", "builds are slower"),
        ("", "fail", "unknown filesystem type"),
    ],
)
def test_overlays(here: Surroundings, monkeypatch: pytest.MonkeyPatch, said: str, level: str, words: str) -> None:
    monkeypatch.setattr(isolation, "run", lambda argv, **_: Completed((), 1, said, "mount: unknown filesystem type"))
    finding = isolation.check_overlay(here)
    assert finding.level == level
    assert words in finding.words
    assert bool(finding.hint) == (level != "ok")


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("open: /dev/net/tun: No such file or directory", "modprobe tun"),
        ("RTNETLINK answers: Operation not supported", "modprobe bridge"),
    ],
)
def test_networks(here: Surroundings, monkeypatch: pytest.MonkeyPatch, said: str, hint: str) -> None:
    monkeypatch.setattr(isolation, "run", failing(said))
    finding = isolation.check_bridge(here)
    assert (finding.level, finding.words) == ("fail", said)
    assert hint in finding.hint


def test_kernel_that_starts_no_32_bit_programs(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "program_32_bit", lambda code: b"\x7fELF, for another machine")
    finding = isolation.check_32_bit(here)
    assert (finding.level, finding.words) == ("warn", confine.NO_32_BIT)


@pytest.mark.parametrize(("kind", "level"), [("kvm", "ok"), ("tcg", "warn")])
def test_accelerator(here: Surroundings, monkeypatch: pytest.MonkeyPatch, kind: Any, level: str) -> None:
    asked: list[Path] = []

    def find(kernel: Path, *, cache: Path, anew: bool) -> accelerator.Found:
        asked.extend((kernel, cache))
        return accelerator.Found(kind, "because")

    monkeypatch.setattr(accelerator, "find", find)
    monkeypatch.setattr(accelerator, "host_kernel", lambda: Path("/boot/vmlinuz-1"))
    assert isolation.check_accelerator(here).level == level
    assert asked == [Path("/boot/vmlinuz-1"), here.artifacts / "cache/doctor"]


def test_no_kernel_to_try_is_no_failure(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "host_kernel", lambda: None)
    assert isolation.check_accelerator(here).level == "warn"


# --- the host


def test_missing_module_and_program(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_MODULES", ("doit", "no_such_module"))
    monkeypatch.setattr(host, "_PROGRAMS", ("sh", "no-such-program"))
    for finding in (host.check_modules(here), host.check_programs(here)):
        assert finding.level == "fail"
        assert "no" in finding.words
        assert "./bootstrap" in finding.hint


@pytest.mark.parametrize(("available", "level"), [(GIB // 2, "fail"), (3 * GIB, "warn"), (8 * GIB, "ok")])
def test_memory(here: Surroundings, monkeypatch: pytest.MonkeyPatch, available: int, level: str) -> None:
    monkeypatch.setattr(sandbox, "memory_available", lambda: available)
    assert host.check_memory(here).level == level


@pytest.mark.parametrize(("free", "level"), [(GIB, "fail"), (6 * GIB, "warn"), (50 * GIB, "ok")])
def test_disk_space(here: Surroundings, monkeypatch: pytest.MonkeyPatch, free: int, level: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(60 * GIB, 60 * GIB - free, free))
    finding = host.check_artifacts(Surroundings(here.recipes, here.artifacts / "not" / "made" / "yet"))
    assert finding.level == level
    assert str(here.artifacts) in finding.words


def test_small_shared_memory(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(64 << 20, 0, 64 << 20))
    assert "--shm-size" in host.check_shared_memory(here).hint


# --- network and clock


class Mirror(http.server.BaseHTTPRequestHandler):
    """A mirror with one release, whose clock may be wrong."""

    offset = 0.0
    age = 0

    def do_HEAD(self) -> None:
        self.send_response_only(200 if self.path == "/debian/dists/bookworm/InRelease" else 404)
        self.send_header("Date", email.utils.formatdate(time.time() + self.offset - self.age, usegmt=True))
        self.send_header("Age", str(self.age))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def mirror(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Mirror]]:
    class Handler(Mirror):
        """A class of its own: tests set its clock."""

    (here.recipes / "distros/debian13.toml").unlink()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("XEN_OSCAR_MIRROR", f"http://127.0.0.1:{server.server_address[1]}/debian")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield Handler
        server.shutdown()
        thread.join()


def test_mirror_with_the_release(here: Surroundings, mirror: type[Mirror]) -> None:
    assert network.check_mirrors(here).level == "ok"


def test_mirror_without_the_release(here: Surroundings, mirror: type[Mirror]) -> None:
    recipe = here.recipes / "distros/debian12.toml"
    recipe.write_text(recipe.read_text().replace("bookworm", "bookwurm"))
    finding = network.check_mirrors(here)
    assert finding.level == "fail"
    assert "/dists/bookwurm/InRelease: 404" in finding.words


@pytest.mark.parametrize("url", ["https://[/x", "https://a:b:c/x"])
def test_an_address_that_is_none(here: Surroundings, url: str) -> None:
    for file in (here.recipes / "distros").iterdir():
        file.unlink()
    (here.recipes / "distros/tiny.toml").write_text(
        f'family = "rpm"\nrepositories = [{{ name = "a", path = "a", metalink = "{url}" }}]\n'
    )
    assert network.check_mirrors(here).words == f"{url}: this is no address"
    assert network.check_clock(here).level == "ok"


@pytest.mark.parametrize(("offset", "age", "level"), [(0, 0, "ok"), (0, 7200, "ok"), (-7200, 0, "warn")])
def test_clock(here: Surroundings, mirror: type[Mirror], offset: float, age: int, level: str) -> None:
    mirror.offset, mirror.age = offset, age
    finding = network.check_clock(here)
    assert finding.level == level
    assert ("ahead of" in finding.words) == (level == "warn")


def test_clock_of_long_ago(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 86400.0)
    assert network.check_clock(here).words == "it is 1970-01-02 here"


def test_mirror_in_a_folder(here: Surroundings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XEN_OSCAR_MIRROR", f"file://{tmp_path}/debian")
    assert network.check_mirrors(here).level == "fail"
    for suite in ("bookworm", "trixie"):
        (tmp_path / "debian/dists" / suite).mkdir(parents=True)
        (tmp_path / "debian/dists" / suite / "InRelease").touch()
    assert network.check_mirrors(here).level == "ok"


def test_a_silent_mirror_is_a_warning_while_others_answer(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.recipes / "distros/tiny.toml").write_text(
        'family = "rpm"\nmirror = "http://127.0.0.1:9"\n'
        'repositories = [{ name = "a", path = "a" }, { name = "b", path = "b" }]\n'
    )
    monkeypatch.setenv("XEN_OSCAR_MIRROR", "http://127.0.0.1:9/debian")
    finding = network.check_mirrors(here)
    assert finding.level == "fail", "none answers"
    folder = here.recipes.parent / "debian"
    for suite in ("bookworm", "trixie"):
        (folder / "dists" / suite).mkdir(parents=True)
        (folder / "dists" / suite / "InRelease").touch()
    monkeypatch.setenv("XEN_OSCAR_MIRROR", folder.as_uri())
    finding = network.check_mirrors(here)
    assert finding.level == "warn"
    assert "http://127.0.0.1:9/b/repodata/repomd.xml: [Errno 111] Connection refused" in finding.words


def test_broken_recipe_is_a_finding(here: Surroundings) -> None:
    (here.recipes / "distros/debian12.toml").write_text("suite = ")
    assert network.check_mirrors(here).level == "fail"
    assert network.check_clock(here).level == "ok"


# --- the whole


def test_closed_gate_ends_the_tries_that_it_would_make_misleading(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(subject: str, level: doctor.finding.Level) -> doctor.Check:
        return lambda surroundings: Finding(subject, level, "")

    monkeypatch.setattr(doctor, "GATES", (check("a", "warn"), check("b", "fail"), check("c", "fail")))
    monkeypatch.setattr(doctor, "TRIES", (check("t", "fail"),))
    monkeypatch.setattr(doctor, "OTHERS", (check("o", "ok"),))
    assert [finding.subject for finding in doctor.examine(here)] == ["a", "b", "o"]
    monkeypatch.setattr(doctor, "GATES", (check("a", "warn"),))
    assert [finding.subject for finding in doctor.examine(here)] == ["a", "o", "t"]


def test_rendering() -> None:
    assert Finding("memory", "ok", "plenty").text() == "ok    memory: plenty"
    assert Finding("memory", "fail", "none", "buy some").text() == "fail  memory: none\n      hint: buy some"


@pytest.mark.slow
def test_command_says_what_is_wrong_and_ends_with_status_1(tmp_path: Path) -> None:
    env = {**os.environ, "XEN_OSCAR_MIRROR": f"file://{tmp_path}/nothing", "XEN_OSCAR_ARTIFACTS": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "doit", "doctor"],
        cwd=TOP,
        env=env,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "fail  mirrors: " in done.stdout
    assert done.stdout.splitlines()[-1].startswith("a cluster cannot run here; ")
