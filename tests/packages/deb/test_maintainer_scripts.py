"""What scripts of ordinary packages do works as it does under debootstrap and mmdebstrap, for root and for a user."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.layers import stacking
from pipeline.packages.deb import complaints, install, under_test
from tests.debmirror import deb as make_deb
from tests.namespaced import inside, job, subordinate_user
from tests.packages.deb import realroot

pytestmark = pytest.mark.slow

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
INIT = """#!/bin/sh
### BEGIN INIT INFO
# Provides: old
# Required-Start:
# Required-Stop:
# Default-Start: 2 3 4 5
# Default-Stop:
# Short-Description: of old
### END INIT INFO
PATH=/sbin:/usr/sbin:/bin:/usr/bin
start-stop-daemon --$1 --exec /usr/bin/tail -- -f /etc/passwd
"""

#: One idiom a package: what it brings, and what its postinst does.
IDIOMS: dict[str, tuple[dict[str, str], str]] = {
    "unit": (
        {"lib/systemd/system/unit.service": UNIT},
        """
        systemctl daemon-reload
        systemctl enable unit.service
        systemctl restart unit.service
        systemctl is-active unit.service
        systemctl --system daemon-reload >/dev/null || true""",
    ),
    "preset": (
        {"lib/systemd/system/preset.service": UNIT},
        """
        systemctl preset preset.service
        systemctl mask e2scrub_all.timer
        systemctl try-reload-or-restart preset.service""",
    ),
    "helped": (
        {"lib/systemd/system/helped.service": UNIT},
        """
        deb-systemd-helper unmask helped.service
        deb-systemd-helper --quiet was-enabled helped.service && deb-systemd-helper enable helped.service
        deb-systemd-helper update-state helped.service
        deb-systemd-invoke start helped.service""",
    ),
    "old": (
        {"etc/init.d/old": INIT},
        """
        chmod 755 /etc/init.d/old
        update-rc.d old defaults
        invoke-rc.d old start
        service old restart
        /etc/init.d/old start""",
    ),
    "devices": (
        {"lib/udev/rules.d/90-devices.rules": 'KERNEL=="none", MODE="0660"\n'},
        """
        udevadm control --reload-rules && udevadm trigger && udevadm settle
        ischroot
        systemd-detect-virt --chroot
        modprobe nothing || true""",
    ),
    "init": (
        {},
        """
        test "$(ps -p 1 -o comm=)" = systemd
        case "$(readlink /proc/1/exe)" in */systemd) ;; *) exit 1 ;; esac
        ! test -d /run/systemd/system""",
    ),
    "users": (
        {"usr/bin/users-helper": "#!/bin/sh\n"},
        """
        adduser --system --group --quiet --home /var/lib/users users-d
        useradd --system --no-create-home users-e
        install -d -o users-d -g users-d -m 2750 /var/lib/users
        dpkg-statoverride --update --add root users-d 4750 /usr/bin/users-helper
        su -s /bin/sh users-d -c 'test -w /var/lib/users'""",
    ),
    "names": (
        {"usr/bin/names": "#!/bin/sh\n"},
        """
        dpkg-divert --local --rename --divert /usr/bin/munge.real --add /usr/bin/munge
        ln -s names /usr/bin/munge
        update-alternatives --install /usr/bin/any-name any-name /usr/bin/names 10
        mkfifo /var/lib/names
        ln /usr/bin/names /usr/bin/names2
        ldconfig""",
    ),
    "folders": (
        {},
        """
        perl -e 'rename("/usr/share/doc/munge", "/usr/share/doc/munge.old") or die $!'
        mv /usr/share/doc/libmunge2 /usr/share/doc/libmunge2.old""",
    ),
    "asks": (
        {},
        """
        . /usr/share/debconf/confmodule
        db_input critical asks/name || true
        db_go || true
        db_get asks/name
        echo "$RET" > /etc/asks
        db_stop""",
    ),
    "settles": (
        {
            "usr/lib/tmpfiles.d/settles.conf": "d /var/lib/settles 0750 root root\n",
            "usr/lib/sysusers.d/settles.conf": 'u settles - "a user" /\n',
        },
        """
        systemd-sysusers settles.conf
        systemd-tmpfiles --create settles.conf
        id settles
        echo "set" > "$HOME/.settles"
        sysctl -p /dev/null""",
    ),
    "stays": ({}, "setsid sleep 9876 >/dev/null 2>&1 & echo left a daemon"),
}


@pytest.fixture(scope="module")
def packages(real: Path) -> None:
    """The packages; the layer below them has an earlier version of one, and one with a trigger."""
    for name, (files, script) in IDIOMS.items():
        more = {"templates": "Template: asks/name\nType: string\nDefault: somebody\nDescription: Who?\n"}
        scripts = {"postinst": f"#!/bin/sh\nset -e\n{script}\n", **(more if name == "asks" else {})}
        make_deb(real / "given", name, files=files, scripts=scripts, Depends="debconf, adduser")
    make_deb(
        real / "given1",
        "listens",
        scripts={"triggers": "interest-noawait /usr/bin\n", "postinst": '#!/bin/sh\necho "$1" >> /etc/listens\n'},
    )
    for version in ("1", "2"):
        files = {
            "etc/settings": f"version {version}\n",
            "usr/share/changes/thing/x" if version == "1" else "usr/share/changes/thing": "x\n",
        }
        make_deb(
            real / f"given{version}",
            "changes",
            version,
            files=files,
            scripts={
                "conffiles": "/etc/settings\n",
                "postinst": f"#!/bin/sh\n[ {version} = 2 ] || echo mine > /etc/settings\n",
            },
        )


@pytest.fixture(params=["root", "user"])
def place(request: pytest.FixtureRequest, real: Path, packages: None) -> Iterator[tuple[Path, list[str]]]:
    """The folder for one who builds, and how to become that one."""
    if request.param == "root":
        yield real, []
        return
    user = subordinate_user()
    folder = Path("/dev/shm") / f"xen-oscar-test-{os.getpid()}-scripts"
    try:
        folder.mkdir()
        for name in ("base-first", "top-first", "given", "given1", "given2"):
            shutil.copytree(real / name, folder / name, ignore=shutil.ignore_patterns("*.tree", "work"))
        subprocess.run(["chown", "--recursive", f"{user}:{user}", folder], check=True)
        yield folder, ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)


#: What must be there afterwards, by the machine's own word.
DONE = r"""
test -L /etc/systemd/system/multi-user.target.wants/unit.service
test -L /etc/systemd/system/multi-user.target.wants/preset.service
test -L /etc/systemd/system/multi-user.target.wants/helped.service
test "$(readlink /etc/systemd/system/e2scrub_all.timer)" = /dev/null
ls /etc/rc3.d/S*old
test "$(stat -c '%U %G %a' /var/lib/users)" = "users-d users-d 2750"
test "$(stat -c '%U %G %a' /usr/bin/users-helper)" = "root users-d 4750"
test "$(readlink /usr/bin/munge)" = names && test -x /usr/bin/munge.real
test "$(readlink -f /usr/bin/any-name)" = /usr/bin/names
test "$(stat -c %h /usr/bin/names)" = 2 && test -p /var/lib/names
test -d /usr/share/doc/munge.old && test ! -e /usr/share/doc/munge && test -d /usr/share/doc/libmunge2.old
test "$(cat /etc/asks)" = somebody
test "$(cat /root/.settles)" = set && test -d /var/lib/settles
grep -qx triggered /etc/listens
test "$(cat /etc/settings)" = "version 2" && test -f /usr/share/changes/thing
test ! -e /usr/sbin/policy-rc.d
start-stop-daemon --version | grep -qw Debian
test -z "$(dpkg-divert --list | grep -v -e munge -e by\ dash -e by\ usr-is-merged)"
test -z "$(dpkg --audit)"
"""


def install_all(folder: str) -> None:
    """Inner side: an older package, then all of them at once."""
    place = Path(folder)
    made = realroot.stack(place)
    for number, given in enumerate((["given1"], ["given", "given2"])):
        words = {"packages": [str(file) for name in given for file in sorted((place / name).glob("*.deb"))]}
        made.append(realroot.made_layer(place / f"tried-{number}", under_test.build, words, *made))
    check = job(place / "look", None, *made, pool=place / "pool")
    with stacking.changed(check) as tree:
        done = sandbox.chroot_run(tree, ["sh", "-exc", DONE], log=check.log, timeout=60, check=False)
    assert done.status == 0, sandbox.tail(check.log)
    print("all done")


def test_ordinary_scripts_work(place: tuple[Path, list[str]]) -> None:
    folder, prefix = place
    assert "all done" in inside(install_all, folder, prefix=prefix)
    assert not [line for line in Path("/proc").glob("[0-9]*/cmdline") if _holds(line, b"sleep\x009876")], "it stays"


def _holds(file: Path, text: bytes) -> bool:
    try:
        return text in file.read_bytes()
    except OSError:
        return False


#: What cannot work, and what a person is told: message, last lines, hint.
FAILURES = {
    "fails": ("echo one; false", "fails", "one", "not booted"),
    "fetches": (
        "getent hosts example.org || { echo Could not resolve host: example.org; exit 6; }",
        "exit status 6",
        "example.org",
        "no network",
    ),
    "node": ("mknod /var/lib/node c 1 3", "exit status 1", "not permitted", "devices"),
    "tunes": ("sysctl -w vm.swappiness=1", "exit status 1", "vm.swappiness", "kernel's settings"),
    "waits": ("sleep 1000", "no end after 2 s", "Setting up waits", "foreground"),
}


def refuse(folder: str) -> None:
    """Inner side: each failure is told as what it is."""
    place = Path(folder)
    install._DEADLINE = 2
    for name, (_, message, tail, hint) in FAILURES.items():
        words = {"packages": [str(place / f"bad/{name}_1_all.deb")]}
        with pytest.raises(UserError) as caught:
            realroot.made_layer(place / f"bad-{name}", under_test.build, words, *realroot.stack(place))
        shown = caught.value.render()
        assert name in caught.value.message and message in caught.value.message, shown
        assert tail in caught.value.tail and hint in caught.value.hint, shown
    print(complaints.__name__)


def test_what_cannot_work_is_told_with_the_package_and_the_reason(real: Path) -> None:
    for name, (script, *_) in FAILURES.items():
        make_deb(real / "bad", name, scripts={"postinst": f"#!/bin/sh\nset -e\n{script}\n"})
    inside(refuse, real)
