"""What tests of whole clusters share: a checkout of their own, and an ordinary user to be."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot import checkout
from tests.boot.checkout import TOP, Checkout

#: The account that stands for an ordinary user; made for the tests, removed after them.
USER = "xen-oscar-test"


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """The checkout's own artifacts: what one test builds, the next one reuses."""
    return Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or TOP / "artifacts")


@pytest.fixture
def project(tmp_path: Path, artifacts: Path) -> Iterator[Checkout]:
    """A copy of the project whose recipes a test may change."""
    made = checkout.copy(tmp_path / "project", artifacts)
    yield made
    made.remove()


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    """An account without any right, with subordinate ids; root makes it and takes it away again."""
    if os.geteuid() != 0:
        pytest.skip("only root can become an ordinary user; all other tests have just run as one")
    take_away_account()  # a run that was killed left its own
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=True)
    try:
        yield pwd.getpwnam(USER)
    finally:
        take_away_account()


def take_away_account() -> None:
    """The account, its processes (a cluster that was left running: userdel refuses while it does) and its files."""
    try:
        account = pwd.getpwnam(USER)
    except KeyError:
        return
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == account.pw_uid:
                os.kill(int(process.name), signal.SIGKILL)
    shutil.rmtree(account.pw_dir, ignore_errors=True)  # mapped users own files in there
    subprocess.run(["userdel", "--remove", USER], check=False, capture_output=True)


@pytest.fixture
def users_project(ordinary_user: pwd.struct_passwd) -> Checkout:
    """A copy of the project that belongs to the ordinary user, with artifacts of its own."""
    folder = Path(ordinary_user.pw_dir) / "project"
    copied = checkout.copy(folder, folder / "artifacts")
    subprocess.run(["chown", "--recursive", f"{USER}:{USER}", folder], check=True)
    prefix = ("setpriv", f"--reuid={ordinary_user.pw_uid}", f"--regid={ordinary_user.pw_gid}", "--clear-groups")
    environment = {"HOME": ordinary_user.pw_dir, "USER": USER, "LOGNAME": USER}
    return Checkout(copied.folder, copied.artifacts, prefix, environment)
