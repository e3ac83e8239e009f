"""The base root and the layers on it, from real packages: sound by dpkg's own word, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.errors import UserError
from pipeline.layers import stacking
from pipeline.packages.deb import files, root, under_test
from pipeline.packages.lock import LockedPackage
from tests.debmirror import deb as make_deb
from tests.namespaced import inside, job
from tests.packages.deb import realroot

#: What the distribution's own tools say of a root, and what must not be in it.
SOUND = """
test -z "$(dpkg --audit)"
dpkg -V
apt-get check
getcap /bin/ping | grep cap_net_raw
test "$(id -u munge)" -gt 0
test ! -e /usr/sbin/policy-rc.d
test ! -e /etc/ssl/certs/ssl-cert-snakeoil.pem
$(sed -n s/ExecStart=//p /etc/systemd/system/sysinit.target.wants/own-certificate.service)
openssl verify -CAfile /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/certs/ssl-cert-snakeoil.pem
test "$(stat -c '%G %a' /etc/ssl/private/ssl-cert-snakeoil.key)" = "ssl-cert 640"
"""


def package(name: str, **fields: str) -> LockedPackage:
    stanza = "".join(f"{field.replace('_', '-')}: {value}\n" for field, value in {"Package": name, **fields}.items())
    return LockedPackage(name, "", "1", "", "all", "main", "", 0, "", stanza)


def test_what_essential_packages_need_comes_first() -> None:
    locked = [
        package("apt", Depends="libapt (>= 2), adduser | other"),
        package("libapt", Pre_Depends="libc"),
        package("libc"),
        package("other"),
        package("shell", Essential="yes", Depends="awk, gone | libc"),
        package("mawk", Provides="awk (= 1)"),
        package("editor", Depends="shell"),
    ]
    assert [item.name for item in root.essential(locked)] == ["apt", "libapt", "libc", "other", "shell", "mawk"]


def test_what_is_unpacked_stays_in_its_root(tmp_path: Path) -> None:
    """A link of one package in place of a folder of the next is followed as it is in that root, as dpkg does."""
    outside = tmp_path / "outside"
    outside.mkdir()
    folders = {"absolute": str(outside), "up": "../../../../../../../../.." + str(outside), "merged": "usr/merged"}
    make_deb(
        tmp_path / "given",
        "a",
        files={"usr/merged/first": "1\n", "etc/same": "old\n"},
        links={**folders, "etc/file": f"{outside}/file"},
    )
    make_deb(
        tmp_path / "given",
        "b",
        files={**{f"{name}/second": "2\n" for name in folders}, "etc/file": "3\n", "etc/same": "new\n"},
    )
    inside(unpack, tmp_path)
    root = tmp_path / "root"
    assert not list(outside.iterdir())
    assert (root / str(outside)[1:] / "second").read_text() == "2\n"
    assert (root / "merged").is_symlink() and (root / "usr/merged/second").read_text() == "2\n"
    assert (root / "etc/file").read_text() == "3\n" and (root / "etc/same").read_text() == "new\n"
    assert (root / "etc/same").stat().st_mode & 0o7777 == 0o644


def unpack(folder: str) -> None:
    """Inner side: the packages in their order."""
    place = Path(folder)
    given = [place / f"given/{name}_1_all.deb" for name in ("a", "b")]
    (place / "root" / str(place / "outside")[1:]).mkdir(parents=True)
    with files.decompressing(given, place / "ready"):
        files.extract([place / "ready" / file.name for file in given], place / "root")


@pytest.mark.slow
def test_roots_of_real_packages(real: Path) -> None:
    make_deb(real / "given", "mine", "2", Depends="munge")
    make_deb(real / "given", "lost", "1", Depends="nowhere")
    inside(realroot.build, real, "again")
    assert [layer.digest for layer in realroot.stack(real)] == [layer.digest for layer in realroot.stack(real, "again")]
    assert inside(on_top, real, "1") == inside(on_top, real, "2")


def on_top(folder: str, number: str) -> None:
    """Inner side: a package under test; print its digest, and look at all of it."""
    place, stack = Path(folder), realroot.stack(Path(folder))
    given = {"packages": [str(place / "given/mine_2_all.deb")]}
    stack.append(realroot.made_layer(place / f"given-{number}", under_test.build, given, *stack))
    print(stack[-1].digest)
    check = job(place / f"check-{number}", None, *stack, pool=place / "pool")
    with stacking.changed(check) as tree:
        sandbox.chroot_run(tree, ["sh", "-ec", SOUND], log=check.log, timeout=300)
        assert (tree / "usr/share/mine/data").read_text() == "mine 2\n"
        assert (tree / "etc/machine-id").read_text() == ""
        for secret in ("etc/munge/munge.key", "etc/hostname", "etc/resolv.conf", "var/log/dpkg.log"):
            assert not (tree / secret).exists(), secret
    lost = {"packages": [str(place / "given/lost_1_all.deb")]}
    with pytest.raises(UserError, match=r"lost_1_all\.deb cannot be installed") as caught:
        realroot.made_layer(place / f"lost-{number}", under_test.build, lost, *stack)
    assert "nowhere" in caught.value.tail
