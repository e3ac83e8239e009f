"""The base root and the layers on it, from real packages: sound by dpkg's own word, and the same bytes each time."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pipeline import sandbox
from pipeline.build import debs, layers, localpackages, packages, root
from pipeline.errors import UserError
from pipeline.families import deb
from pipeline.step import Input
from tests.debmirror import deb as make_deb
from tests.namespaced import inside, job

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PARAMS = {"suites": ["bookworm"], "suite": "bookworm", "components": ["main"], "architecture": "amd64",
          "keyring": str(KEYRING), "mirror": ""}

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
def test_roots_of_real_packages(tmp_path: Path) -> None:
    if not KEYRING.exists():
        pytest.skip("needs debian-archive-keyring")
    index = job(tmp_path / "index", PARAMS)
    try:
        deb.index(index)
    except UserError as error:
        pytest.skip(f"no mirror: {error.message}")
    found = Input("index", "", index.out, "")
    base = _locked(tmp_path / "base", ["systemd-sysv", "iputils-ping"], found)
    _locked(tmp_path / "top", ["munge"], found, Input("base", "", base, ""))
    make_deb(tmp_path / "given", "mine", "2", Depends="munge")
    make_deb(tmp_path / "given", "lost", "1", Depends="nowhere")
    assert inside(build_all, tmp_path, "1") == inside(build_all, tmp_path, "2")


def _locked(folder: Path, names: list[str], *inputs: Input) -> Path:
    lock = job(folder / "lock", {"packages": names, "architecture": "amd64"}, *inputs)
    deb.lock(lock)
    deb.fetch(job(folder / "fetch", PARAMS, Input("lock", "", lock.out, ""), pool=folder.parent / "pool"))
    return lock.out


def build_all(folder: str, number: str) -> None:
    """Inner side: base, packages and a package under test; print their digests."""
    place = Path(folder)
    stack: list[Input] = []
    for name, builder, params in (
            ("base", root.build, PARAMS), ("top", packages.build, {}),
            ("given", localpackages.build, {"packages": [str(place / "given/mine_2_all.deb")]})):
        inputs = [Input(role, "", place / name / role / "out", "") for role in ("lock", "fetch")]
        work = job(place / f"{name}-{number}", params, *stack, *inputs, pool=place / "pool")
        sandbox.scratch(work.work, 1 << 30)
        builder(work)
        digest = hashlib.sha256((work.out / layers.LAYER).read_bytes()).hexdigest()
        stack.append(Input("layer", "", work.out, digest))
        print(name, digest)
    check = job(place / f"check-{number}", None, *stack, pool=place / "pool")
    with layers.changed(check) as tree:
        sandbox.chroot_run(tree, ["sh", "-ec", SOUND], log=check.log, timeout=300)
        assert (tree / "usr/share/mine/data").read_text() == "mine 2\n"
        assert (tree / "etc/machine-id").read_text() == ""
        for secret in ("etc/munge/munge.key", "etc/hostname", "etc/resolv.conf", "var/log/dpkg.log"):
            assert not (tree / secret).exists(), secret
    lost = job(place / f"lost-{number}", {"packages": [str(place / "given/lost_1_all.deb")]}, *stack,
               pool=place / "pool")
    with pytest.raises(UserError, match=r"lost_1_all\.deb cannot be installed") as caught:
        localpackages.build(lost)
    assert "nowhere" in caught.value.tail
