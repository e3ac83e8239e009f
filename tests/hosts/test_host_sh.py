"""What is done on a VM container, tried here: what is required of it, what is made there, and that all of it goes."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.hosts.script import Script, functions
from tests.namespaced import inside


def call(
    top: Path, *calls: tuple[str, ...], run: str = "first", path: Path | None = None, shell: str = ""
) -> tuple[int, str]:
    """Call functions for a cluster `c` whose folder is below `top`: status and what was said."""
    given = f"cluster=c folder={shlex.quote(str(top / 'c'))} run={run}\n"
    own = f"PATH={path}:$PATH\n" if path else ""
    text = "\n".join([given + (shell or functions("xen")) + own, *(f"{shlex.join(words)} || exit" for words in calls)])
    done = subprocess.run(
        ["sh", "-c", text], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
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
    'domname 3') echo database ;;
    *) exit 1 ;;
esac
""")
    (folder / "xenstore-ls").write_text('#!/bin/sh\n[ "$*" = "-f /local/domain/0" ] && cat "${0%/*}/xenstore"\n')
    (folder / "xenstore").write_text("")
    for program in ("xl", "xenstore-ls"):
        (folder / program).chmod(0o755)
    return folder


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device of 8 MiB with nothing on it."""
    (tmp_path / "device").write_bytes(bytes(8 << 20))
    made = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "device"], capture_output=True, text=True, check=False, timeout=30
    )
    if made.returncode:
        pytest.skip(f"no loop devices here: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True, timeout=30)


def test_it_is_a_program_that_the_shell_can_read() -> None:
    subprocess.run(["sh", "-n"], input=Script("c", "xen").of([("clear",)]), text=True, check=True, timeout=30)


def test_values_reach_it_as_they_are() -> None:
    text = Script("c", "xen", "r").of([("echo", "two words", "$HOME")])
    assert "run=r\n" in text and text.endswith("echo 'two words' '$HOME' || exit")


def test_a_machine_without_xen_is_told(tmp_path: Path) -> None:
    status, said = call(tmp_path, ("require_engine",), ("echo", "goes on"))
    assert status == 1 and said.startswith("this machine does not run Xen")


@pytest.fixture
def virsh(tmp_path: Path) -> Path:
    """A folder with a `virsh` that knows QEMU with KVM, and with a QEMU in which no kernel gets anywhere."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "virsh").write_text("""#!/bin/sh
case "$*" in
    *version) printf 'Using API: QEMU 9.0.0\\nRunning hypervisor: QEMU 7.2.22\\n' ;;
    *domcapabilities*) printf '<domainCapabilities>\\n  <path>%s/qemu</path>\\n' "${0%/*}" ;;
    *) exit 1 ;;
esac
""")
    (folder / "qemu").write_text('#!/bin/sh\necho tried >> "${0%/*}/tried"\n')
    for program in ("virsh", "qemu"):
        (folder / program).chmod(0o755)
    return folder


def test_a_machine_without_libvirt_is_told(tmp_path: Path) -> None:
    (tmp_path / "virsh").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "virsh").chmod(0o755)
    status, said = call(tmp_path, ("require_engine",), ("echo", "goes on"), shell=functions("qemu"), path=tmp_path)
    assert status == 1 and said.startswith("libvirt does not answer there at qemu:///system")


def test_kvm_is_believed_only_where_a_kernel_boots_with_it(tmp_path: Path, virsh: Path) -> None:
    """That it does not is believed for an hour; a host without a kernel that could be tried is believed."""
    assert call(tmp_path, ("require_engine",), shell=functions("qemu"), path=virsh) == (0, "")
    shell = functions("qemu").replace("/boot/vmlinuz-*", f"{tmp_path}/kernel")
    assert call(tmp_path, ("carries",), shell=shell, path=virsh)[1].endswith(" kvm")
    (tmp_path / "kernel").write_text("")
    for _ in range(2):
        assert call(tmp_path, ("carries",), shell=shell, path=virsh)[1].endswith(" tcg")
    assert (virsh / "tried").read_text() == "tried\n"
    panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
    (virsh / "qemu").write_text(f"#!/bin/sh\necho '{panic}'\n")
    os.utime(virsh / "qemu", (1, 1))
    status, said = call(tmp_path, ("say_engine",), shell=shell, path=virsh)
    assert status == 0 and said.startswith("QEMU 7.2.22 with kvm, ") and said.endswith(" MiB free")


def test_memory_must_be_free(tmp_path: Path, xl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEN_COMMANDLINE", "dom0_mem=1G,max:1G")
    assert call(tmp_path, ("require_memory", "600"), path=xl) == (0, "")
    status, said = call(tmp_path, ("require_memory", "601"), path=xl)
    assert status == 1 and said.startswith("601 MiB of memory are needed, 600 MiB are free there: end other clusters")
    monkeypatch.setenv("XEN_COMMANDLINE", "placeholder")  # dom0 gives up to a GiB of its own
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
    found = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", "--types", "ext4,xfs,btrfs"],
        text=True,
        capture_output=True,
        check=False,
        timeout=30,
    ).stdout.split()
    mounted = next((source for source in found if Path(source).is_block_device()), "")
    if not mounted:
        pytest.skip("no device is mounted here")
    status, said = call(tmp_path, ("require_device", mounted, "1", "node1"))
    assert status == 1 and f"{mounted}, the disk of node1, is in use there: it is mounted at /" in said
    status, said = call(tmp_path, ("require_device", mounted, str(1 << 40), "node1"))
    assert status == 1 and f"the file systems of node1 need {1 << 40} MiB" in said


def test_a_device_of_nobody_is_filled(tmp_path: Path, xl: Path, device: str) -> None:
    (tmp_path / "disk.img").write_bytes(b"disk" * 1024)
    assert call(
        tmp_path, ("require_device", device, "8", "node1"), ("fill", device, f"{tmp_path}/disk.img"), path=xl
    ) == (0, "")
    assert Path(device).read_bytes().startswith(b"disk" * 1024)
    status, said = call(tmp_path, ("fill", device, f"{tmp_path}/nothing"), path=xl)
    assert status == 1 and "cannot be filled: dd: failed to open" in said


def test_a_device_that_a_process_has_open_is_not_written_to(tmp_path: Path, xl: Path, device: str) -> None:
    with Path(device).open("r+b"):
        refused(tmp_path, xl, device, "has it open$", f"process {os.getpid()}")
    with Path(device).open("rb"):
        refused(tmp_path, xl, device, "has it open$", f"process {os.getpid()}")


def test_a_device_that_is_mounted_where_nobody_sees_it_is_not_written_to(tmp_path: Path, xl: Path, device: str) -> None:
    subprocess.run(["mke2fs", "-q", device], check=True, timeout=60)
    (tmp_path / "mount").mkdir()
    script = f"mount {device} {tmp_path}/mount && echo mounted && read -r _"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline() == "mounted\n"
        try:
            refused(tmp_path, xl, device, "something holds it that does not show here")
        finally:
            holder.stdin.close()


def test_a_device_that_is_another_domains_disk_is_not_written_to(tmp_path: Path, xl: Path, device: str) -> None:
    number = Path(device).stat().st_rdev
    backend = "/local/domain/0/backend/vbd"
    lines = [
        f'{backend}/{domain}/51712/physical-device = "{os.major(number):x}:{os.minor(number):x}"' for domain in (3, 4)
    ]
    (xl / "xenstore").write_text(f'{backend}/3/51712/params = "/dev/x"\n{lines[0]}\n')
    refused(tmp_path, xl, device, "it is a disk of the domain database$")
    (xl / "xenstore").write_text(f"{lines[1]}\n")  # it has no name any more
    refused(tmp_path, xl, device, "it is a disk of the domain 4$")
    (xl / "xenstore").write_text(f'/local/domain/0/data/x = "{lines[0]}"\n')
    assert call(tmp_path, ("require_device", device, "1", "node1"), path=xl) == (0, "")


def test_who_has_a_device_open_for_a_moment_is_waited_for(tmp_path: Path, xl: Path, device: str) -> None:
    with Path(device).open("rb") as file:
        timer = threading.Timer(1, file.close)
        timer.start()
        assert call(tmp_path, ("require_device", device, "1", "node1"), path=xl) == (0, "")
        assert file.closed
        timer.join()


def refused(top: Path, path: Path, device: str, *reasons: str) -> None:
    """Neither before the start nor when it should be filled."""
    (top / "disk.img").write_bytes(b"disk" * 1024)
    before = (top / "device").read_bytes()
    impatient = functions("xen").replace("PATIENCE, INTERVAL = 3.0,", "PATIENCE, INTERVAL = 0.1,")
    assert impatient != functions("xen")
    for words, told in (
        (("require_device", device, "1", "node1"), f"^{device}, the disk of node1, is in use there: "),
        (("fill", device, f"{top}/disk.img"), f"^{device} cannot be filled: "),
    ):
        status, said = call(top, words, path=path, shell=impatient)
        assert status == 1
        for reason in (told, *reasons):
            assert re.search(reason, said), said
    assert (top / "device").read_bytes() == before


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
    assert names(store) == {"used", "oldest", "newer"}
    assert call(top, ("require_room", "4")) == (0, "")
    assert names(store) == {"used", "newer"}
    status, said = call(top, ("require_room", "8"))
    assert status == 1 and said == f"8 MiB are needed in {top}, 7 MiB are free there"
    assert names(store) == {"used"}


def names(store: Path) -> set[str]:
    return {path.name for path in store.iterdir() if not path.name.startswith(".")}


def test_what_is_about_to_be_used_or_on_its_way_is_not_cleaned_away(tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    inside(_make_no_room, tmp_path / "mount")


def _make_no_room(mount: str) -> None:
    """As root of a namespace, on a file system of 10 MiB; `c` wants two files and only then finds one there."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", mount], check=True)
    top, store = Path(mount), Path(mount) / ".store"
    store.mkdir()
    for name in ("sha256-there", "sha256-coming.c.part", "sha256-left.d.part", "sha256-old.d.part"):
        (store / name).write_bytes(bytes(2 << 20))
        os.utime(store / name, (0, 0) if name.endswith(("old.d.part", "there", "coming.c.part")) else None)
    assert call(top, ("want", "sha256-there")) == (0, "there")
    assert call(top, ("want", "sha256-coming")) == (0, "")
    status, said = call(top, ("require_room", "8"))
    assert status == 1 and said == f"8 MiB are needed in {top}, 4 MiB are free there"
    assert names(store) == {"sha256-there", "sha256-coming.c.part", "sha256-left.d.part"}, "an old piece"

    assert call(top, ("taken", "sha256-there")) == (0, "")
    assert call(top, ("require_room", "6")) == (0, "")
    assert names(store) == {"sha256-coming.c.part", "sha256-left.d.part"}
    with (store / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(["sh", "-c", f"flock -n {store}/.lock true"]) as busy:
            assert busy.wait() == 1
        timer = threading.Timer(0.5, fcntl.flock, [lock, fcntl.LOCK_UN])
        timer.start()
        begin = time.monotonic()
        assert call(top, ("want", "sha256-there")) == (0, "")
        assert time.monotonic() - begin > 0.4, "one at a time"


def test_a_copy_becomes_what_changes_say(tmp_path: Path) -> None:
    size = 1 << 16
    folder = tmp_path / "disk.changes"
    folder.mkdir()
    (tmp_path / "disk").write_bytes(b"0" * 6 * size)
    (folder / "clusters").write_bytes(b"x" * size + b"1" * 2 * size + b"2" * size)
    (folder / "pieces").write_text("1 1 2\n3 5 1\n")
    assert call(tmp_path, ("change", f"{tmp_path}/disk", str(folder))) == (0, "")
    assert (tmp_path / "disk").read_bytes() == b"".join(digit * size for digit in (b"0", b"1", b"1", b"0", b"0", b"2"))
    assert not folder.exists()
    status, said = call(tmp_path, ("change", f"{tmp_path}/disk", str(folder)))
    assert status != 0 and "pieces" in said


def test_a_disk_for_data_is_made_once_grows_and_never_shrinks(tmp_path: Path) -> None:
    (tmp_path / "c/disks").mkdir(parents=True)
    kept = tmp_path / ".kept/c/node1.data"

    def provide(mib: int, kind: str = "kept", owner: str = "me") -> tuple[int, str]:
        return call(tmp_path, ("provide", "node1.data", str(mib), kind, owner))

    assert provide(2) == (0, "")
    kept.write_bytes(b"data".ljust(2 << 20, b"\0"))
    assert provide(3) == (0, "")
    assert kept.stat().st_size == 3 << 20 and (tmp_path / "c/disks/node1.data").read_bytes()[:4] == b"data"
    status, said = provide(2)
    assert status == 1 and f"{kept} has 3 MiB there, and the recipe says 2" in said and 'say size = "3M"' in said
    status, said = provide(3, owner="somebody else")
    assert status == 1 and "has disks that are kept for me: give your cluster another name" in said
    assert [path.name for path in kept.parent.iterdir() if path.name.startswith("owner")] == ["owner"]
    kept.rename(tmp_path / "moved")  # to a larger volume, say
    kept.symlink_to(tmp_path / "moved")
    with (tmp_path / "moved").open("ab") as file:
        file.write(b"end")
    status, said = provide(3)
    assert status == 1 and "has 4 MiB there" in said, "what is begun of a MiB counts"
    assert provide(4) == (0, "") and (tmp_path / "moved").read_bytes()[3 << 20 :][:3] == b"end"
    os.truncate(tmp_path / "moved", 3 << 20)
    assert call(tmp_path, ("remove", "node1")) == (0, "") and kept.exists()
    assert provide(3) == (0, "")
    assert provide(1, "throwaway") == (0, ""), "it is another one"
    assert (tmp_path / "c/disks/node1.data").stat().st_size == 1 << 20
    (tmp_path / "c/run").write_text("first\n")
    assert call(tmp_path, ("clear",)) == (0, "")
    assert not (tmp_path / "c").exists() and kept.read_bytes()[:4] == b"data"


def test_kept_disks_go_only_by_name_and_for_their_owner(tmp_path: Path) -> None:
    (tmp_path / "c/disks").mkdir(parents=True)
    kept = tmp_path / ".kept/c"
    for disk in ("node1.data", "node1.home", "node2.data"):
        assert call(tmp_path, ("provide", disk, "1", "kept", "me")) == (0, "")
    assert call(tmp_path, ("tell_kept", "me")) == (0, "node1.data\nnode1.home\nnode2.data")
    assert call(tmp_path, ("tell_kept", "somebody else")) == (0, "")
    assert call(tmp_path, ("discard", "somebody else", "node1.data")) == (1, f"{kept} is not yours")
    (kept / "node1.data").rename(tmp_path / "moved")
    (kept / "node1.data").symlink_to(tmp_path / "moved")
    assert call(tmp_path, ("discard", "me", "node1.data", "node1.gone")) == (0, "")
    assert not (tmp_path / "moved").exists() and not (kept / "node1.data").is_symlink()
    assert call(tmp_path, ("tell_kept", "me")) == (0, "node1.home\nnode2.data")
    assert call(tmp_path, ("discard", "me", "node1.home", "node2.data")) == (0, "") and not kept.exists()
    assert call(tmp_path, ("tell_kept", "me")) == (0, "")


def test_what_was_made_goes_again(tmp_path: Path) -> None:
    inside(_make_and_clear, tmp_path)


def _make_and_clear(folder: str) -> None:
    """As root of a namespace that has a network of its own."""
    top = Path(folder)

    def bridges() -> set[str]:
        return {path.name for path in Path("/sys/class/net").iterdir() if (path / "bridge").exists()}

    programs = top / "programs"
    programs.mkdir()
    (programs / "virsh").write_text(f"#!/bin/sh\ncat >> {top}/asked\n")
    (programs / "virsh").chmod(0o755)
    made = (
        ("prepare", "me on this machine", "head=u-1", "node1=u-2"),
        ("make_bridge", "xoc-private"),
        ("make_bridge", "xoc-public", "10.9.0.254", "10.9.0.0/24", "end that"),
    )
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    assert call(top, *made) == (0, "")
    assert bridges() == {"xoc-private", "xoc-public"}
    shown = subprocess.run(
        ["ip", "-4", "-o", "address", "show", "dev", "xoc-public"], capture_output=True, text=True, check=True
    ).stdout
    assert "10.9.0.254/24" in shown
    assert (top / "c/machines").read_text().splitlines() == ["head u-1", "node1 u-2"]
    (top / "c/disks/node2").touch()
    assert call(top, ("enlist", "node2=u-3")) == (0, "")
    assert call(top, ("remove", "node2", "node3")) == (0, "")
    assert list((top / "c/disks").iterdir()) == []
    assert call(top, ("require_bridges",)) == (0, "")
    status, said = call(top, ("require_bridges",), run="second")
    assert status == 1 and said == "c is no longer there: doit stop:c, then doit cluster:c"

    subprocess.run(["ip", "link", "delete", "xoc-private"], check=True)
    status, said = call(top, ("require_bridges",))
    assert status == 1 and said == "the bridge xoc-private is missing there: doit stop:c, then doit cluster:c"

    subprocess.run(["ip", "link", "add", "other", "type", "bridge"], check=True)
    subprocess.run(["ip", "address", "add", "10.8.0.1/24", "dev", "other"], check=True)
    status, said = call(top, ("make_bridge", "xoc-third", "10.8.0.254", "10.8.0.0/24", "end that cluster"))
    assert status == 1 and said == "10.8.0.0/24 is taken there by other: end that cluster"

    status, said = call(top, *made, run="second")
    assert status == 1 and said.startswith("c is there already, started by me on this machine: give yours another name")
    assert call(top, ("clear",), run="second") == (0, ""), "it clears nothing of another start"
    assert (top / "c/machines").exists()
    assert call(top, ("clear",), path=programs) == (0, "")
    assert bridges() == {"other"} and not (top / "c").exists()
    ended = [f"destroy {uuid}; undefine {uuid}" for uuid in ("u-1", "u-2", "u-3")]
    assert (top / "asked").read_text().splitlines() == ended, "by what no machine of others has, whatever its name"
    assert call(top, ("clear",)) == (0, ""), "nothing to clear is no mistake"
    assert call(top, *made, run="second") == (0, "")
