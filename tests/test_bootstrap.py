"""bootstrap in copies of the checkout: what it makes, that it makes it once, and what it says where it may not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
NOBODY = 65534
NAME = 'My Projects, 100% of "it\'s" $HOME `id` \\ Überblick'


def copy(folder: Path) -> Path:
    """As much of the checkout as bootstrap needs."""
    for name in ("bootstrap", "requirements.lock", "pyproject.toml"):
        shutil.copy(TOP / name, folder)
    (folder / "pipeline").mkdir()
    shutil.copy(TOP / "pipeline/__init__.py", folder / "pipeline")
    return folder


def bootstrap(checkout: Path, *args: str, user: int | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "bootstrap", *args],
        env={**os.environ, **env},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
        user=user,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def ready() -> Iterator[Path]:
    """A checkout, bootstrapped, in a folder that everybody may read, with a name that few programs expect."""
    with tempfile.TemporaryDirectory(prefix="bootstrap-") as name:
        folder = Path(name) / NAME
        folder.mkdir()
        folder.parent.chmod(0o755)
        checkout = copy(folder)
        done = bootstrap(checkout)
        assert done.returncode == 0, done.stderr
        yield checkout


@pytest.fixture
def bare(tmp_path: Path) -> tuple[Path, Path]:
    """A checkout, and a folder with only those programs that every system has, and no package."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "cat", "cmp", "cut", "env", "flock", "grep", "id", "mkdir", "readlink", "sed", "sleep", "tail"):
        (tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    return copy(checkout), tools


def program(tools: Path, name: str, text: str) -> None:
    (tools / name).write_text(f"#!/bin/sh\n{text}\n")
    (tools / name).chmod(0o755)


@pytest.mark.parametrize("name", ["a:b", "two\nlines"])
def test_names_that_nothing_can_be_made_in_are_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "checkout").mkdir(parents=True)
    done = bootstrap(copy(tmp_path / name / "checkout"), "true")
    assert done.returncode == 1
    assert done.stderr.startswith("bootstrap: there is a colon or a line break")
    assert not list((tmp_path / name / "checkout").glob("artifacts"))


# --- what it makes


@pytest.mark.slow
def test_first_run_makes_an_environment_that_has_everything(ready: Path) -> None:
    done = bootstrap(
        ready, "python", "-c", "import doit, guestfs, libvirt, pipeline, sys; print(sys.prefix)", PYTHONPATH=""
    )
    assert done.stdout.strip() == str(ready / ".venv")
    assert bootstrap(ready, "sh", "-c", "cd / && doit --version").returncode == 0


@pytest.mark.slow
def test_second_run_changes_nothing_and_says_nothing(ready: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (ready / ".venv").rglob("*") if "__pycache__" not in path.parts}
    done = bootstrap(ready, "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_without_arguments_it_says_how_to_go_on(ready: Path) -> None:
    text = bootstrap(ready).stdout
    assert "./bootstrap doit cluster:debian12" in text
    assert f". {ready}/.venv/bin/activate" in text


@pytest.mark.slow
def test_arguments_and_status_are_handed_on_as_they_are(ready: Path) -> None:
    done = bootstrap(ready, "sh", "-c", 'printf "<%s>" "$@"; exit 7', "sh", "a b", "", "*")
    assert (done.returncode, done.stdout) == (7, "<a b><><*>")


@pytest.mark.slow
def test_it_may_be_called_from_anywhere(ready: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [os.path.relpath(ready / "bootstrap", tmp_path), "sh", "-c", "pwd; command -v doit"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [str(ready), str(ready / ".venv/bin/doit")]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_ordinary_user_uses_what_is_ready(ready: Path) -> None:
    done = bootstrap(ready, "python", "-c", "import doit, guestfs, libvirt, os; print(os.getuid())", user=NOBODY)
    assert (done.returncode, done.stdout.strip()) == (0, str(NOBODY))


@pytest.mark.slow
def test_interrupted_or_outdated_environment_is_made_anew_once_by_two_at_once(ready: Path) -> None:
    (ready / ".venv/stamp").unlink()  # it is written last
    shutil.rmtree(ready / ".venv/lib")
    with (ready / "requirements.lock").open("a") as file:
        file.write("# another lock\n")
    both = [
        subprocess.Popen([ready / "bootstrap", "python", "-c", "import doit"], text=True, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=600)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("making .venv" in text for text in said) == [False, True]
    assert bootstrap(ready, "true").stderr == ""


# --- what it says where it may not, or cannot


def test_without_apt_it_lists_what_to_install(bare: tuple[Path, Path]) -> None:
    checkout, tools = bare
    if shutil.which("virsh", path="/usr/local/sbin:/usr/sbin:/sbin"):
        pytest.skip("bootstrap looks into these folders anyway")
    done = bootstrap(checkout, "true", PATH=str(tools))
    assert done.returncode == 1
    assert "there is no apt-get here" in done.stderr
    assert "libvirt-clients" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_and_sudo_it_says_what_root_has_to_run() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        checkout = copy(folder)
        tools = folder / "tools"
        tools.mkdir()
        for tool in ("sh", "cat", "cmp", "flock", "id", "mkdir", "readlink"):
            (tools / tool).symlink_to(shutil.which(tool) or f"/usr/bin/{tool}")
        program(tools, "apt-get", "exit 1")
        (folder / "artifacts").mkdir()
        os.chown(folder / "artifacts", NOBODY, NOBODY)
        done = bootstrap(checkout, "true", user=NOBODY, PATH=str(tools))
    assert done.returncode == 1
    assert "as root, run: apt-get install --no-install-recommends" in done.stderr


def test_failing_apt_shows_the_end_of_its_log(bare: tuple[Path, Path]) -> None:
    checkout, tools = bare
    program(tools, "sudo", 'if [ "$1" = -n ]; then exit 0; fi; exec "$@"')
    program(tools, "apt-get", 'echo "E: the disk of $DEBIAN_FRONTEND is full"; exit 100')
    done = bootstrap(checkout, "true", PATH=str(tools))
    assert done.returncode == 1
    assert "not every package source could be read" in done.stderr
    assert "apt-get cannot install them" in done.stderr
    assert "    | E: the disk of noninteractive is full" in done.stderr
    assert "E: the disk" in (checkout / "artifacts/logs/bootstrap.log").read_text()


def test_failing_update_does_not_stop_it_and_missing_packages_are_named(bare: tuple[Path, Path]) -> None:
    checkout, tools = bare
    program(tools, "sudo", 'if [ "$1" = -n ]; then exit 0; fi; exec "$@"')
    program(tools, "apt-get", 'case "$*" in update) exit 100 ;; *) echo "$*" >>"$0.asked" ;; esac')
    done = bootstrap(checkout, "true", PATH=str(tools))
    assert done.returncode == 1
    assert "these are still missing: " in done.stderr
    (asked,) = (tools / "apt-get.asked").read_text().splitlines()
    assert "--no-install-recommends" in asked
    assert "DPkg::Lock::Timeout=" in asked
    assert "qemu-utils" in asked.split()


def test_lock_has_a_checksum_for_everything_and_names_no_place() -> None:
    text = (TOP / "requirements.lock").read_text()
    pinned = [line for line in text.splitlines() if line and line[0] not in "# "]
    assert all("==" in line and line.endswith("\\") for line in pinned)
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text
