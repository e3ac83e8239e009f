"""Foreign code in a machine with a vsyscall page: a program that calls it, and what comes back of a root.

It takes the kernel of the installer, which is built if it is not there yet: with the network, and some ten seconds of
emulation for each run.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.errors import CommandError
from tests.boot.checkout import TOP
from tests.namespaced import inside, smallest_root

pytestmark = pytest.mark.boot

#: time(2) of the vsyscall page, as programs of an old C library call it.
_CALLS = """
static long call(long n, long a, long b, long c) {
    long r;
    __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return r;
}
void _start(void) {
    long now = ((long (*)(long *))0xffffffffff600400UL)(0);
    call(1, 1, (long)"it works\\n", now > 1000000000 ? 9 : 0);
    call(60, 0, 0, 0);
}
"""
_SCRIPT = """
/bin/calls || exit 1
chown 7:8 /etc/owned; chmod 4755 /etc/owned; rm /etc/gone
echo changed >/etc/changed; ln /etc/changed /etc/other
sleep 1000 &
[ "$(cat /run/packages/one)" = given ] && echo "$NAME in $(pwd)"
exit 3
"""


@pytest.fixture(scope="module")
def machine(artifacts: Path) -> Path:
    subprocess.run([sys.executable, "-m", "doit", "netboot:amd64"], cwd=TOP, check=True, timeout=900)
    return (artifacts / "amd64/netboot/files").resolve()


def run(folder: str, machine: str) -> None:
    """Inner side: a script in a small root."""
    place = Path(folder)
    os.environ.update(sandbox.environment({"TMPDIR": folder}))
    root = place / "root"
    os.setxattr(root / "etc/able", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    before = (root / "etc/same").stat().st_ino
    sandbox._machine = Path(machine)  # as on a machine without the page, which this one may have
    try:
        sandbox.chroot_run(
            root, ["sh", "-c", _SCRIPT], log=place / "log", timeout=300, env={"NAME": "a name"}, cwd="/etc",
            binds=[sandbox.Bind(place / "packages", "/run/packages")],
        )  # fmt: skip
    except CommandError as error:
        print("ended", error.message.partition(":")[0], "|", error.tail.replace("\n", "|"))
    for name in ("owned", "gone", "changed", "other", "able"):
        path = root / "etc" / name
        found = path.lstat() if path.exists() else None
        print(name, found and (oct(stat.S_IMODE(found.st_mode)), found.st_uid, found.st_gid, found.st_nlink))
    print("able", os.getxattr(root / "etc/able", "security.capability").hex())
    print(
        "same",
        (root / "etc/same").stat().st_ino == before,
        sorted(path.name for path in root.iterdir()),
        [*(root / "run").iterdir()],
    )


def test_a_program_of_old_runs_and_all_of_a_root_comes_back(tmp_path: Path, machine: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    root = tmp_path / "root"
    smallest_root(root)
    (root / "sys").mkdir()
    words = [compiler, "-O1", "-static", "-nostdlib", "-x", "c", "-", "-o", str(root / "bin/calls")]
    subprocess.run(words, input=_CALLS, text=True, check=True)
    for name in ("owned", "gone", "changed", "same", "able"):
        (root / "etc" / name).write_text(name)
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/one").write_text("given")
    copied = tmp_path / "machine"
    shutil.copytree(machine, copied)
    said = inside(run, tmp_path, copied).splitlines()
    assert said == [
        "ended exit status 3 | it works|a name in /etc",
        "owned ('0o4755', 7, 8, 1)",
        "gone None",
        "changed ('0o644', 0, 0, 2)",
        "other ('0o644', 0, 0, 2)",
        "able ('0o644', 0, 0, 1)",
        "able 0100000200200000000000000000000000000000",
        "same True ['bin', 'dev', 'etc', 'proc', 'run', 'sys', 'tmp'] []",
    ]
