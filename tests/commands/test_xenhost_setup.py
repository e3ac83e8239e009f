"""doit xenhost-setup: which hosts it takes, and the machines that it refuses, with reasons."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.commands.xenhost_setup import script
from pipeline.sandbox import mount
from tests.namespaced import inside

TOP = Path(__file__).resolve().parents[2]
MS_BIND = 4096

#: What is other than here -> what it says.
REFUSED = {
    "fedora": "this is neither Debian nor Ubuntu but fedora: install Xen and libvirt there by hand",
    "no-apt": "there is no apt-get here, so nothing can be installed",
    "arm64": "this machine is arm64; clusters on Xen are made for amd64",
    "guest": "this machine is itself a guest of Xen: set up the machine that it runs on",
    "no-grub": "this machine does not boot with GRUB, which starts the hypervisor",
    "user": "only root can set a Xen host up",
}


def _cover(path: str, text: str, folder: Path) -> None:
    """Within this namespace `path` is a program or file with this text."""
    file = folder / Path(path).name
    file.write_text(text)
    file.chmod(0o755)
    mount(str(file), path, flags=MS_BIND)


def look(folder: str, what: str) -> None:
    """Run the script, which changes nothing without `go`, where one thing is other than here."""
    place, prefix = Path(folder), []
    if what == "fedora":
        _cover("/etc/os-release", "ID=fedora\n", place)
    elif what == "no-apt":
        mount("/dev/null", "/usr/bin/apt-get", flags=MS_BIND)
    elif what == "arm64":
        _cover("/usr/bin/dpkg", "#!/bin/sh\necho arm64\n", place)
    elif what == "guest":
        mount("tmpfs", "/sys", "tmpfs")
        Path("/sys/hypervisor").mkdir()
        Path("/sys/hypervisor/type").write_text("xen\n")
        Path("/sys/hypervisor/uuid").write_text("7f4c2e10-0000-0000-0000-000000000001\n")
    elif what == "no-grub":
        mount("tmpfs", "/boot", "tmpfs")
    elif what == "user":
        prefix = ["setpriv", "--reuid=65534", "--clear-groups"]
    done = subprocess.run([*prefix, "sh", "-c", script(go=False)], capture_output=True, text=True, check=False)
    print(done.stderr.strip())
    sys.exit(done.returncode)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs a Debian machine")
@pytest.mark.parametrize("what", REFUSED)
def test_a_machine_that_cannot_become_a_xen_host_is_refused(tmp_path: Path, what: str) -> None:
    assert inside(look, tmp_path, what, status=1).strip() == REFUSED[what]


@pytest.mark.parametrize(
    ("host", "status", "words"),
    [
        ("debian12", 1, 'debian12 is no Xen host of yours: connection = "testbed"'),
        ("local", 1, 'local is no Xen host of yours: connection = "private"'),
        ("locla", 3, "did you mean local?"),
    ],
)
def test_a_host_that_is_no_machine_is_refused(tmp_path: Path, host: str, status: int, words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "xenhost-setup", host],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XEN_OSCAR_ARTIFACTS": str(tmp_path)},
    )
    assert done.returncode == status and words in done.stderr, done.stderr
