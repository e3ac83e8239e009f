"""Foreign code in a machine with a vsyscall page: a program that calls it, what comes back of a root and of what is
bound into it, and that the machine looks like a chroot; a machine for which there is no room.

It takes the kernel of the installer, which is built if it is not there yet: with the network, and some ten seconds of
emulation for each run.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import confine, sandbox, trouble
from pipeline.checkout import own_folder
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
#: What a script can see of where it runs, and what is no file of the root.
_LOOK = r"""
echo "$(hostname) $(id -u) $(id -g) $(pwd) umask $(umask) cores $(ulimit -c)"
env | sort
find /dev /run /tmp /proc/1/root | sort | while read -r path; do
    echo "$path $(stat -c '%F %a %t %T' "$path") $(readlink "$path")"
done
options() {
    awk -v place=$1 '$2 == place { flags = $4 } END { print flags }' /proc/mounts | tr , '\n' | grep -E "^($2)\$" | sort
}
for place in /proc /proc/1 /proc/sys /run /tmp /dev /dev/pts /dev/shm; do
    echo $place $(options $place 'ro|rw|nosuid|nodev|noexec')
done
echo / $(options / nosuid)
for place in /run/packages /tmp/image /tmp/file; do echo $place $(options $place 'ro|rw'); done
grep -E '^(CapBnd|CapEff|CapPrm|NoNewPrivs):' /proc/self/status
cat /proc/1/comm; tr '\0' ' ' </proc/1/cmdline; readlink /proc/1/exe
head -n 1 /proc/1/status; cut -d ' ' -f 1-2 /proc/1/stat; wc -c </proc/1/environ
stat -c %F /proc/kmsg
echo 1 2>/dev/null >/proc/sys/vm/swappiness || echo no settings
mknod /etc/device c 1 3 2>/dev/null || echo no devices
touch /run/packages/two 2>/dev/null || echo only read
"""
_SCRIPT = r"""
. /etc/look
echo done looking
/bin/calls || exit 1
chown 7:8 /etc/owned; chmod 4755 /etc/owned; rm /etc/gone
echo changed >/etc/changed; ln /etc/changed /etc/other
echo made >/tmp/image/made; rm /tmp/image/gone; echo written >/tmp/file
sleep 1000 &
[ "$(cat /run/packages/one)" = given ] && echo "$NAME in $(pwd)"
yes | head -c 34000000
exit 3
"""


@pytest.fixture(scope="module")
def machine(artifacts: Path) -> Path:
    subprocess.run([sys.executable, "-m", "doit", "netboot:amd64"], cwd=TOP, check=True, timeout=900)
    return (own_folder(TOP, artifacts.resolve()) / "amd64/netboot/files").resolve()


def run(folder: str, machine: str) -> None:
    """Inner side: a script in a small root, of which the first part runs in a chroot as well."""
    place = Path(folder)
    os.environ.update(sandbox.environment({"TMPDIR": folder}))
    root = place / "root"
    os.setxattr(root / "etc/able", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    before = (root / "etc/same").stat().st_ino
    chroot = _outcome(place, "look")
    print("chroot", chroot[0])
    sandbox._machine = Path(machine)  # as on a machine without the page, which this one may have
    ended, printed = _outcome(place, "script")
    print("ended", ended)
    looked, _, rest = printed.partition(b"done looking\n")
    pairs = itertools.zip_longest(chroot[1].splitlines(), looked.splitlines())
    print("looks different", [pair for pair in pairs if pair[0] != pair[1]])
    print("printed", len(printed) == confine.PRINTED + len(confine.LEFT_OUT), rest.splitlines()[:2])
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
    print(
        "image",
        {path.name: path.read_text() for path in sorted((place / "image").iterdir())},
        (place / "file").read_text().strip(),
    )
    print("packages", sorted(path.name for path in (place / "packages").iterdir()))


def _outcome(place: Path, script: str) -> tuple[str, bytes]:
    """How a script with all kinds of binds ends, and what it prints."""
    log = place / "log"
    log.write_bytes(b"")
    binds = [
        sandbox.Bind(place / "packages", "/run/packages"),
        sandbox.Bind(place / "image", "/tmp/image", writable=True),
        sandbox.Bind(place / "file", "/tmp/file", writable=True),
    ]
    done = sandbox.chroot_run(
        place / "root", ["sh", f"/etc/{script}"], log=log, timeout=300, env={"NAME": "a name"}, cwd="/etc", binds=binds,
        check=False,
    )  # fmt: skip
    return f"exit status {done.status}", re.sub(rb"\A# .*\n(\$ .*\n)?", b"", log.read_bytes())


def test_a_program_of_old_runs_and_all_that_it_may_write_comes_back(tmp_path: Path, machine: Path) -> None:
    compiler = shutil.which("gcc")
    assert compiler, "gcc is missing: ./bootstrap true"
    root = tmp_path / "root"
    smallest_root(root)
    (root / "sys").mkdir()
    words = [compiler, "-O1", "-static", "-nostdlib", "-x", "c", "-", "-o", str(root / "bin/calls")]
    subprocess.run(words, input=_CALLS, text=True, check=True)
    for name in ("owned", "gone", "changed", "same", "able"):
        (root / "etc" / name).write_text(name)
    (root / "etc/look").write_text(_LOOK)
    (root / "etc/script").write_text(_SCRIPT)
    for name in ("packages/one", "image/gone", "image/kept", "file"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("given")
    (tmp_path / "packages/itself").symlink_to(".")
    (tmp_path / "packages/none").symlink_to("nowhere")
    copied = tmp_path / "machine"
    shutil.copytree(machine, copied)
    said = inside(run, tmp_path, copied).splitlines()
    assert said == [
        "chroot exit status 0",
        "ended exit status 3",
        "looks different []",
        "printed True [b'it works', b'a name in /etc']",
        "owned ('0o4755', 7, 8, 1)",
        "gone None",
        "changed ('0o644', 0, 0, 2)",
        "other ('0o644', 0, 0, 2)",
        "able ('0o644', 0, 0, 1)",
        "able 0100000200200000000000000000000000000000",
        "same True ['bin', 'dev', 'etc', 'proc', 'run', 'sys', 'tmp'] []",
        "image {'kept': 'given', 'made': 'made\\n'} written",
        "packages ['itself', 'none', 'one']",
    ]


def run_short(folder: str, machine: str) -> None:
    """Inner side: a script that writes more than there is room for, and ends before that if it may change its root."""
    place = Path(folder)
    sandbox.mount(place / "root", place / "root", flags=confine.MS_BIND)
    sandbox.mount("none", place / "root", flags=confine.MS_BIND | confine.MS_REMOUNT | confine.MS_RDONLY)
    assert sandbox.scratch(place / "small", 48 << 20)
    os.environ.update(sandbox.environment({"TMPDIR": str(place / "small")}))
    sandbox._machine = Path(machine)
    binds = [sandbox.Bind(place / "image", "/tmp/image", writable=True)]
    script = "touch /etc/new || head -c 80000000 /dev/zero >/tmp/image/large"
    try:
        sandbox.chroot_run(place / "root", ["sh", "-c", script], log=place / "log", timeout=300, binds=binds)
    except Exception as error:  # as the worker has it
        explained = trouble.explain(error)
        print(trouble.is_short_of_room(error), explained and explained.message)
    print([path.name for name in ("root/etc", "image", "small") for path in (place / name).iterdir()])


def test_a_machine_without_room_ends_and_says_so(tmp_path: Path, machine: Path) -> None:
    smallest_root(tmp_path / "root")
    for name in ("image", "small"):
        (tmp_path / name).mkdir()
    copied = tmp_path / "machine"
    shutil.copytree(machine, copied)
    said = inside(run_short, tmp_path, copied)
    assert said.startswith("True ") and f"no space is left on {tmp_path}/small (memory, " in said
    assert said.endswith("\n[]\n")
