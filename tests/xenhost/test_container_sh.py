"""What is done on a VM container, tried here: what is required of it, what is made there, and that all of it goes."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.xenhost.script import FUNCTIONS, Script
from tests.namespaced import inside


def call(top: Path, *calls: tuple[str, ...], run: str = "first", path: Path | None = None) -> tuple[int, str]:
    """Call functions for a cluster `c` whose folder is below `top`: status and what was said."""
    given = f"cluster=c folder={shlex.quote(str(top / 'c'))} run={run}\n"
    own = f"PATH={path}:$PATH\n" if path else ""
    text = "\n".join([given + FUNCTIONS + own, *(f"{shlex.join(words)} || exit" for words in calls)])
    done = subprocess.run(["sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.fixture
def xl(tmp_path: Path) -> Path:
    """A folder with an `xl` that knows a machine of Xen's: 600 MiB free, machines of type pv only."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "xl").write_text("""#!/bin/sh
case "$*" in
    'info free_memory') echo 600 ;;
    'info virt_caps') echo pv gnttab-v1 ;;
    'info xen_commandline') echo "$XEN_COMMANDLINE" ;;
    'list 0') printf 'Name ID Mem\\nDomain-0 0 4096\\n' ;;
esac
""")
    (folder / "xl").chmod(0o755)
    return folder


def test_it_is_a_program_that_the_shell_can_read() -> None:
    subprocess.run(["sh", "-n"], input=Script("c").of([("clear",)]), text=True, check=True, timeout=30)


def test_values_reach_it_as_they_are() -> None:
    text = Script("c", "r").of([("echo", "two words", "$HOME")])
    assert "run=r\n" in text and text.endswith("echo 'two words' '$HOME' || exit")


def test_a_machine_without_xen_is_told(tmp_path: Path) -> None:
    status, said = call(tmp_path, ("require_xen",), ("echo", "goes on"))
    assert status == 1 and said.startswith("this machine does not run Xen")


def test_memory_must_be_free(tmp_path: Path, xl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEN_COMMANDLINE", "dom0_mem=1G,max:1G")
    assert call(tmp_path, ("require_memory", "600"), path=xl) == (0, "")
    status, said = call(tmp_path, ("require_memory", "601"), path=xl)
    assert status == 1 and said.startswith("601 MiB of memory are needed, 600 MiB are free there: end other clusters")
    monkeypatch.setenv("XEN_COMMANDLINE", "placeholder")      # dom0 gives up to a GiB of its own
    assert call(tmp_path, ("require_memory", "3672"), path=xl) == (0, "")
    assert call(tmp_path, ("require_memory", "3673"), path=xl)[0] == 1


def test_hardware_must_do_what_a_machine_is(tmp_path: Path, xl: Path) -> None:
    assert call(tmp_path, ("require_kind", "pv", "head"), path=xl) == (0, "")
    for kind in ("pvh", "hvm"):
        status, said = call(tmp_path, ("require_kind", kind, "node1"), path=xl)
        assert status == 1 and f'node1 is of type "{kind}", which this host does not run' in said


def test_a_device_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("file", "nothing"):
        status, said = call(tmp_path, ("require_device", f"{tmp_path}/{place}", "10", "node1"))
        assert status == 1 and said == f"{tmp_path}/{place}, the disk of node1, is no block device there"


def test_a_device_that_is_in_use_or_too_small_is_not_written_to(tmp_path: Path) -> None:
    found = subprocess.run(["findmnt", "--noheadings", "--output", "SOURCE", "--types", "ext4,xfs,btrfs"], text=True,
                           capture_output=True, check=False, timeout=30).stdout.split()
    mounted = next((source for source in found if Path(source).is_block_device()), "")
    if not mounted:
        pytest.skip("no device is mounted here")
    status, said = call(tmp_path, ("require_device", mounted, "1", "node1"))
    assert status == 1 and f"{mounted}, the disk of node1, is in use there: it is mounted at /" in said
    status, said = call(tmp_path, ("require_device", mounted, str(1 << 40), "node1"))
    assert status == 1 and f"the file systems of node1 need {1 << 40} MiB" in said


def test_room_is_made_of_what_no_cluster_uses(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    inside(_make_room, tmp_path / "mount")


def _make_room(mount: str) -> None:
    """As root of a namespace, on a file system of 10 MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", mount], check=True)
    top = Path(mount)
    store = top / ".store"
    store.mkdir()
    for age, name in enumerate(("used", "oldest", "newer")):
        (store / name).write_bytes(bytes(3 << 20))
        os.utime(store / name, (age, age))
    (top / "other/disks").mkdir(parents=True)
    (top / "other/disks/sis").symlink_to(store / "used")
    assert call(top, ("require_room", "1")) == (0, "")
    assert {path.name for path in store.iterdir()} == {"used", "oldest", "newer"}
    assert call(top, ("require_room", "4")) == (0, "")
    assert {path.name for path in store.iterdir()} == {"used", "newer"}
    status, said = call(top, ("require_room", "8"))
    assert status == 1 and said == f"8 MiB are needed in {top}, 7 MiB are free there"
    assert {path.name for path in store.iterdir()} == {"used"}


def test_what_was_made_goes_again(tmp_path: Path) -> None:
    inside(_make_and_clear, tmp_path)


def _make_and_clear(folder: str) -> None:
    """As root of a namespace that has a network of its own."""
    top = Path(folder)

    def bridges() -> set[str]:
        return {path.name for path in Path("/sys/class/net").iterdir() if (path / "bridge").exists()}

    made = (("prepare", "me on this machine", "head", "node1"), ("make_bridge", "xoc-private"),
            ("make_bridge", "xoc-public", "10.9.0.254", "10.9.0.0/24", "end that"))
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    assert call(top, *made) == (0, "")
    assert bridges() == {"xoc-private", "xoc-public"}
    shown = subprocess.run(["ip", "-4", "-o", "address", "show", "dev", "xoc-public"], capture_output=True, text=True,
                           check=True).stdout
    assert "10.9.0.254/24" in shown
    assert (top / "c/machines").read_text().split() == ["c-head", "c-node1"]
    assert call(top, ("require_bridges",)) == (0, "")
    status, said = call(top, ("require_bridges",), run="second")
    assert status == 1 and said == "c is no longer there: start it anew"

    subprocess.run(["ip", "link", "delete", "xoc-private"], check=True)
    status, said = call(top, ("require_bridges",))
    assert status == 1 and said == "the bridge xoc-private is missing there: start c anew"

    subprocess.run(["ip", "link", "add", "other", "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "10.8.0.1/24", "dev", "other"], check=True)
    status, said = call(top, ("make_bridge", "xoc-third", "10.8.0.254", "10.8.0.0/24", "end that cluster"))
    assert status == 1 and said == "10.8.0.0/24 is taken there by other: end that cluster"

    status, said = call(top, *made, run="second")
    assert status == 1 and said.startswith("c is there already, started by me on this machine: give yours another name")
    assert call(top, ("clear",), run="second") == (0, ""), "it clears nothing of another start"
    assert (top / "c/machines").exists()
    assert call(top, ("clear",)) == (0, "")
    assert bridges() == {"other"} and not (top / "c").exists()
    assert call(top, ("clear",)) == (0, ""), "nothing to clear is no mistake"
    assert call(top, *made, run="second") == (0, "")
