"""The probe for an accelerator, with a QEMU that does as it is told."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.virt import accelerator

_QEMU = """#!/bin/sh
echo "$@" >> {folder}/calls
case "$*" in *"-accel kvm"*) . {folder}/kvm ;; *) . {folder}/tcg ;; esac
"""
_BOOTS = f"echo 'Linux version 6.1'; echo '[ 1.0] {accelerator._PANIC} on unknown-block(0,0)'"


class Host:
    """A host whose QEMU behaves as the scripts `kvm` and `tcg` say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = folder / "vmlinuz"
        self.kernel.write_bytes(b"kernel")
        self.kvm = folder / "dev-kvm"
        self.kvm.touch()
        qemu = folder / "qemu-system-x86_64"
        qemu.write_text(_QEMU.format(folder=folder))
        qemu.chmod(0o755)
        self.set(kvm=_BOOTS, tcg=_BOOTS)

    def set(self, **scripts: str) -> None:
        for name, script in scripts.items():
            (self.folder / name).write_text(script + "\n")

    def find(self, *, anew: bool = False) -> accelerator.Found:
        return accelerator.find(self.kernel, cache=self.folder / "cache", anew=anew)

    @property
    def calls(self) -> int:
        path = self.folder / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(accelerator, "_KVM", made.kvm)
    monkeypatch.setattr(accelerator, "_as_in_a_cluster", lambda kernel: [])
    return made


def test_kvm_that_boots_a_kernel_is_taken_and_remembered(host: Host) -> None:
    assert host.find().accelerator == "kvm"
    assert host.find().accelerator == "kvm"
    assert host.calls == 1


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'qemu-system-x86_64: error: failed to set MSR 0x10a' >&2; exit 1",
            "KVM is present, but a real kernel does not boot with it (error: failed to set MSR 0x10a)",
        ),
        ("kill -ABRT $$", "QEMU ended with status -6"),
        ("echo 'Linux version'", "the kernel did not get to its end"),
        ("echo 'Could not access KVM kernel module: Permission denied' >&2; exit 1", "setfacl"),
    ],
)
def test_kvm_that_does_not(host: Host, script: str, why: str) -> None:
    host.set(kvm=script)
    found = host.find()
    assert found.accelerator == "tcg"
    assert why in found.why
    assert host.find() == found
    assert host.calls == 2


def test_kvm_that_hangs(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = accelerator._boot
    monkeypatch.setattr(accelerator, "_boot", lambda kernel, kind, within: boot(kernel, kind, within=0.3))
    host.set(kvm="exec sleep 60")
    found = host.find()
    assert found.accelerator == "tcg"
    assert "it hangs" in found.why


def test_that_kvm_does_not_work_is_doubted_after_an_hour(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is busy makes it too slow; that emulation works is no question any more."""
    now = time.time()
    host.set(kvm="exit 1")
    assert host.find().accelerator == "tcg" and host.calls == 2
    monkeypatch.setattr(time, "time", lambda: now + 3000)
    assert host.find().accelerator == "tcg" and host.calls == 2
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    assert host.find().accelerator == "tcg" and host.calls == 3
    monkeypatch.setattr(time, "time", lambda: now - 9000)  # the clock was put right
    assert host.find().accelerator == "tcg" and host.calls == 4
    host.set(kvm=_BOOTS)
    monkeypatch.setattr(time, "time", lambda: now + 9000)
    assert host.find().accelerator == "kvm"
    monkeypatch.setattr(time, "time", lambda: now + 90000)
    assert host.find().accelerator == "kvm" and host.calls == 5, "what works is not doubted"


def test_it_can_be_asked_anew(host: Host) -> None:
    host.set(kvm="exit 1")
    host.find()
    host.set(kvm=_BOOTS)
    assert host.find().accelerator == "tcg"
    assert host.find(anew=True).accelerator == "kvm"
    assert host.find().accelerator == "kvm"


def test_several_at_once_try_once(host: Host) -> None:
    host.set(kvm=f"sleep 0.2; {_BOOTS}")
    with ThreadPoolExecutor(4) as pool:
        found = [future.result().accelerator for future in [pool.submit(host.find) for _ in range(4)]]
    assert found == ["kvm"] * 4 and host.calls == 1
    assert [path.name for path in (host.folder / "cache").iterdir()] == ["accelerator.json"]


def test_without_kvm_nothing_is_tried_in_vain(host: Host) -> None:
    host.kvm.unlink()
    found = host.find()
    assert (found.accelerator, host.calls) == ("tcg", 1)
    assert "/dev/kvm does not exist" in found.why


def test_the_answer_is_for_one_kernel_one_qemu_and_one_right(host: Host) -> None:
    host.find()
    host.kernel.write_bytes(b"another")
    host.find()
    assert host.calls == 2
    os.utime(host.folder / "qemu-system-x86_64", (1, 1))
    host.find()
    assert host.calls == 3
    host.kvm.unlink()
    assert host.find().accelerator == "tcg"


@pytest.mark.parametrize("damage", ["", "{}", "[]", '{"key": 1}', "null"])
def test_a_damaged_memory_is_made_anew(host: Host, damage: str) -> None:
    host.find()
    (host.folder / "cache/accelerator.json").write_text(damage)
    assert host.find().accelerator == "kvm"
    assert host.calls == 2


def test_nothing_boots(host: Host) -> None:
    host.set(kvm="exit 1", tcg="echo 'cannot set up guest memory' >&2; exit 1")
    with pytest.raises(UserError, match="boots no kernel on this host: cannot set up guest memory"):
        host.find()
