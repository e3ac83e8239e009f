"""The way to a VM container: read off its URI, held while a run lives, and files that come whole or not at all."""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import ssh
from pipeline.errors import ClusterError
from pipeline.hosts import access
from pipeline.hosts.access import Access

TOP = Path(__file__).resolve().parents[2]

#: Seconds for what takes a moment.
PATIENCE = 30


@pytest.fixture
def here() -> Access:
    return access.of("xen:///system")


def test_this_machine_is_reached_without_ssh(here: Access) -> None:
    assert here.ssh == () and here.proxy_command == "" and str(here) == "this machine"
    assert here.run("echo $((6 * 7))").stdout == "42\n"


def test_ssh_goes_as_libvirt_goes() -> None:
    way = access.of("xen+ssh://admin@big.example:2222/system?keyfile=/a%20key&no_verify=1&command=/bin/my-ssh")
    assert way.ssh[0] == "/bin/my-ssh" and way.ssh[-1] == "admin@big.example"
    words = " ".join(way.ssh)
    assert "-p 2222" in words and "-i /a key" in words
    assert "StrictHostKeyChecking=no" in words and "UserKnownHostsFile=/dev/null" in words
    assert way.proxy_command.endswith("-W '[%h]:%p' admin@big.example")
    assert access.of("xen+ssh://big.example/system").ssh[-1] == "root@big.example"


def test_a_way_through_a_way_keeps_what_ssh_would_replace() -> None:
    way = access.of("xen+ssh://root@big/system?command=/my%20projects%2F100%25h/ssh")
    first, *_ = shlex.split(way.proxy_command)
    assert way.ssh[0] == "/my projects/100%h/ssh" and first == "/my projects/100%%h/ssh"


def test_what_a_script_says_last_is_the_reason(here: Access) -> None:
    with pytest.raises(ClusterError, match=r"^this machine: no room left") as caught:
        here.run("echo looking; echo no room left >&2; exit 3")
    assert caught.value.tail == "no room left"


def test_a_machine_that_cannot_be_reached_is_told_with_the_command_to_try() -> None:
    way = access.of("xen+ssh://root@127.0.0.1:1/system")
    with pytest.raises(ClusterError, match=r"root@127.0.0.1: cannot be reached") as caught:
        way.run("true")
    assert "-p 1" in caught.value.hint and caught.value.hint.endswith("root@127.0.0.1 true")


@pytest.mark.parametrize(
    "words",
    [
        "Corrupted MAC on input.",
        "ssh_dispatch_run_fatal: Connection to 10.76.0.1 port 22: message authentication code incorrect",
        "Bad packet length 3210581242.",
    ],
)
def test_corrupt_data_is_no_broken_line(words: str) -> None:
    error = ssh.broken("node1", "the ssh connection broke", words, hint="doit console one node1")
    assert "corrupt" in error.message and words in error.tail and "start it anew" in error.hint
    assert ssh.broken("node1", "the ssh connection broke", "Connection refused", hint="x").hint == "x"


def test_a_run_that_leaves_its_lease_keeps_what_it_made(here: Access, tmp_path: Path) -> None:
    with here.lease(f"echo cleared > {tmp_path}/mark"):
        pass
    with pytest.raises(KeyError), here.lease(f"echo cleared > {tmp_path}/mark"):
        raise KeyError
    assert not (tmp_path / "mark").exists()


def test_a_run_that_is_killed_while_it_holds_a_lease_is_cleared_up_after(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    os.mkfifo(mark)
    code = (
        f"from pipeline.hosts import access\n"
        f"with access.of('xen:///system').lease('echo cleared > {mark}'):\n"
        f"    print('held', flush=True)\n    input()\n"
    )
    reader = os.open(mark, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as run:
            assert run.stdout and run.stdout.readline() == b"held\n"
            assert not select.select([reader], [], [], 0)[0]
            run.send_signal(signal.SIGKILL)
        assert select.select([reader], [], [], PATIENCE)[0], "nothing was cleared up"
        assert os.read(reader, 100) == b"cleared\n"
    finally:
        os.close(reader)


def test_a_file_comes_whole_with_its_progress(here: Access, tmp_path: Path) -> None:
    source = tmp_path / "disk.img"
    source.write_bytes(os.urandom(1 << 20) + bytes(8 << 20))
    said: list[str] = []
    here.upload(source, f"{tmp_path}/there", said.append)
    assert (tmp_path / "there").read_bytes() == source.read_bytes()
    assert said and said[-1] == "100%"
    assert (tmp_path / "there").stat().st_blocks < 4096, "holes are not written"
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.glob("*.part"))


def test_an_upload_that_was_broken_off_leaves_nothing_under_the_name_and_is_made_right(
    here: Access, tmp_path: Path
) -> None:
    source = tmp_path / "disk.img"
    source.write_bytes(os.urandom(1 << 20))
    (tmp_path / "there.part").write_bytes(source.read_bytes()[:300_000] + b"wrong" * 1000)
    here.upload(source, f"{tmp_path}/there")
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


def test_of_what_is_there_already_only_what_differs_travels_whatever_its_time(here: Access, tmp_path: Path) -> None:
    source, part = tmp_path / "disk.img", tmp_path / "there.part"
    source.write_bytes(os.urandom(1 << 20))
    part.write_bytes(b"xxxx" + source.read_bytes()[4:])
    os.utime(part, ns=(source.stat().st_mtime_ns,) * 2)
    here.upload(source, f"{tmp_path}/there")
    assert (tmp_path / "there").read_bytes() == source.read_bytes()


def test_an_upload_into_nowhere_is_told(here: Access, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"x")
    with pytest.raises(ClusterError, match=r"disk.img could not be brought there") as caught:
        here.upload(tmp_path / "disk.img", f"{tmp_path}/no/such/folder/there")
    assert "No such file" in caught.value.tail
    assert not (tmp_path / "no").exists()
