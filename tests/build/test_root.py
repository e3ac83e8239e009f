"""The base root and the layers on it, from real packages: sound by dpkg's own word, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline import sandbox
from pipeline.build import debs, layers, localpackages, root
from pipeline.errors import UserError
from tests.build import realroot
from tests.debmirror import deb as make_deb
from tests.namespaced import inside, job

#: What the distribution's own tools say of a root, and what must not be in it.
SOUND = """
test -z "$(dpkg --audit)"
dpkg -V
apt-get check
getcap /bin/ping | grep cap_net_raw
test "$(id -u munge)" -gt 0
test ! -e /usr/sbin/policy-rc.d
"""


def package(name: str, **fields: str) -> dict[str, Any]:
    stanza = "".join(f"{field.replace('_', '-')}: {value}\n" for field, value in {"Package": name, **fields}.items())
    return {"name": name, "stanza": stanza}


def test_what_essential_packages_need_comes_first() -> None:
    locked = [package("apt", Depends="libapt (>= 2), adduser | other"), package("libapt", Pre_Depends="libc"),
              package("libc"), package("other"), package("shell", Essential="yes", Depends="awk, gone | libc"),
              package("mawk", Provides="awk (= 1)"), package("editor", Depends="shell")]
    assert [item["name"] for item in root.essential(locked)] == ["apt", "libapt", "libc", "other", "shell", "mawk"]


def test_packages_are_decompressed_whole(tmp_path: Path) -> None:
    made = make_deb(tmp_path / "made", "odd", "1", files={"usr/share/odd/x": "xyz", "usr/share/odd/y": "y" * 9999})
    debs.unpacked([made], tmp_path / "ready")
    ready = tmp_path / "ready" / made.name
    offset, size = debs.content(ready)
    assert b"y" * 9999 in ready.read_bytes()[offset : offset + size]
    debs.extract([ready], tmp_path)
    assert (tmp_path / "usr/share/odd/x").read_text() == "xyz"
    (tmp_path / "no.deb").write_text("no package")
    with pytest.raises(UserError, match="is no package"):
        debs.unpacked([tmp_path / "no.deb"], tmp_path / "bad")


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
    stack.append(realroot.layer(place / f"given-{number}", localpackages.build, given, *stack))
    print(stack[-1].digest)
    check = job(place / f"check-{number}", None, *stack, pool=place / "pool")
    with layers.changed(check) as tree:
        sandbox.chroot_run(tree, ["sh", "-ec", SOUND], log=check.log, timeout=300)
        assert (tree / "usr/share/mine/data").read_text() == "mine 2\n"
        assert (tree / "etc/machine-id").read_text() == ""
        for secret in ("etc/munge/munge.key", "etc/hostname", "etc/resolv.conf", "var/log/dpkg.log"):
            assert not (tree / secret).exists(), secret
    lost = {"packages": [str(place / "given/lost_1_all.deb")]}
    with pytest.raises(UserError, match=r"lost_1_all\.deb cannot be installed") as caught:
        realroot.layer(place / f"lost-{number}", localpackages.build, lost, *stack)
    assert "nowhere" in caught.value.tail
