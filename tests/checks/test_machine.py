"""Each check passes on a healthy machine, and each is shown to fail on wrong facts."""

from __future__ import annotations

import dataclasses

import pytest

from pipeline.checks import machine as checks
from pipeline.checks.facts import FactsError
from pipeline.description import DataDisk
from tests.checks.samples import GOOD, MIB, PACKAGES, RELEASE, changed, subject

APPLICABLE = [
    (check, name)
    for check in checks.CHECKS
    for name, role in (("oscarhead", "head"), ("node1", "compute"))
    if role in check.roles
]


@pytest.mark.parametrize(("check", "name"), APPLICABLE, ids=[f"{check.name}-{name}" for check, name in APPLICABLE])
def test_healthy(check: checks.Check, name: str) -> None:
    finding = check.evaluate(subject(name))
    assert finding.problems == ()
    assert finding.seen


LABEL = GOOD["node1"]["labels"]
WRONG: list[tuple[str, dict[str, str | None], str]] = [
    ("ping", changed("ping", "status 0", "status 1"), "no echo"),
    ("ping", changed("ping", "192.168.50.11", "192.168.50.99"), "does not find it at 192.168.50.11"),
    ("ssh", {"status": "255\n", "err": "Permission denied (publickey)."}, "exit status 255: Permission denied"),
    ("ssh", {"status": ""}, "unknown"),
    ("ssh", {"end": None}, "broke off"),
    ("host name", {"hostname": "localhost\n"}, "calls itself localhost, not node1"),
    ("hardware", changed("hardware", "1\n", "2\n"), "2 processors, not 1"),
    ("hardware", {"hardware": "1\nMemTotal: 200000 kB\n"}, "195 MiB of memory, not 384"),
    ("hardware", {"hardware": "1\nMemTotal: 800000 kB\n"}, "781 MiB of memory, not 384"),
    ("network", changed("addresses", "192.168.50.11/24", "192.168.50.77/24"), "has 192.168.50.77/24, not"),
    ("network", changed("addresses", "192.168.50.11/24", "192.168.50.77/24"), "which nobody gave it"),
    ("network", changed("addresses", "192.168.50.11/24", "192.168.50.11/16"), "not 192.168.50.11/24"),
    ("network", changed("macs", "52:54:00:00:01:11", "52:54:00:00:01:99"), "MAC 52:54:00:00:01:99, not"),
    ("network", changed("macs", "eth0", "ens3"), "there is no eth0"),
    (
        "network",
        {"addresses": GOOD["node1"]["addresses"] + "2: eth0    inet 10.9.9.9/24 scope global eth0\n"},
        "eth0 has 10.9.9.9/24, which nobody gave it",
    ),
    (
        "network",
        {"addresses": GOOD["node1"]["addresses"] + "3: br0    inet 192.168.0.1/16 scope global br0\n"},
        "br0 has 192.168.0.1/16, which overlaps the cluster's network 192.168.50.0/24",
    ),
    (
        "network",
        {"addresses": GOOD["node1"]["addresses"] + "3: vip0    inet 10.10.0.9/32 scope global vip0\n"},
        "vip0 has 10.10.0.9/32, which overlaps the cluster's network 10.10.0.0/24",
    ),
    ("clock", {"clock": "1763700003.0 1763700000.5 1763700003.2\n"}, "2.60 s ahead of the head node, known to 0.10 s"),
    ("clock", {"clock": "1763700000.0 1763700002.5 1763700000.4\n"}, "2.30 s behind"),
    ("kernel", {"kernel": "6.1.0-1-cloud-amd64\n"}, f"6.1.0-1-cloud-amd64 runs, there is {RELEASE}"),
    ("kernel log", {"dmesg": "[ 9.1] Out of memory: Killed process 99 (slurmd)\n"}, "Out of memory"),
    ("kernel log", {"dmesg": "[ 9.1] Kernel panic - not syncing\n"}, "panic"),
    ("kernel log", {"dmesg": "[ 9.1] EXT4-fs error (device vda1): ext4_lookup\n"}, "EXT4-fs error"),
    ("kernel log", {"dmesg": "[ 9.1] EXT4-fs (vda1): Remounting filesystem read-only\n"}, "read-only"),
    ("kernel log", {"dmesg": "[ 9.1] I/O error, dev vda, sector 8\n"}, "I/O error"),
    ("services", {"services": "failed munge.service\n", "servicelog": ""}, "munge.service"),
    (
        "partitions",
        changed("blocks", f"vda vda 254:0 {1024 * MIB // 512}", f"vda vda 254:0 {2048 * MIB // 512}"),
        "vda has 2048 MiB, not 1024",
    ),
    ("partitions", changed("blocks", str(895 * MIB // 512), str(700 * MIB // 512)), "vda1 (/) has 700 MiB, not 896"),
    ("partitions", changed("blocks", str(128 * MIB // 512), str(64 * MIB // 512)), "vda2 (swap) has 64 MiB, not 128"),
    ("partitions", {"blocks": GOOD["node1"]["blocks"] + "vda3 vda 254:3 2048 3\n"}, "3 partitions, not 2"),
    ("partitions", {"labels": LABEL.replace("82", "8e", 1)}, "vda2 (swap) has type 8e, not 82"),
    ("partitions", {"swaps": "Filename Type Size Used Priority\n"}, "swap is on no partition of vda"),
    ("file systems", changed("mounts", "- ext4 /dev/vda1", "- xfs /dev/vda1"), "/ is xfs, not ext4"),
    ("file systems", changed("mounts", "/ / rw", "/ / ro"), "/ cannot be written"),
    ("file systems", changed("mounts", "/dev/vda1 rw", "/dev/vda1 ro"), "/ cannot be written"),
    ("file systems", changed("mounts", " / / ", " / /elsewhere "), "nothing is mounted on /"),
    ("file systems", {"sizes": "F 1024-blocks U A C M\n/dev/vda1 400000 1 2 1% /\n"}, "/ has 390 MiB of its"),
    ("swap", {"swaps": "Filename Type Size Used Priority\n"}, "0 swap areas are in use, not 1"),
    ("swap", {"swaps": "Filename Type Size Used Priority\n/dev/vda2 partition 65532 0 -2\n"}, "63 MiB of its"),
    ("packages", {"packages": GOOD["node1"]["packages"] + "nmap 7.9 whole\n"}, "1 not in the lock: nmap"),
    ("packages", changed("packages", "munge 0.5.15-2 whole\n", ""), "1 missing: munge"),
    (
        "packages",
        {"packages": GOOD["node1"]["packages"] + "munge 0.5.15-2 half\nmunge 0.5.15-2 whole\n"},
        "1 of another version: munge",
    ),
    ("packages", changed("packages", "libc6 2.36-9 ", "libc6 2.36-8 "), "1 of another version: libc6"),
    ("packages", changed("packages", "munge 0.5.15-2 whole", "munge 0.5.15-2 iF"), "1 half installed: munge"),
    ("image files", {"sums": f"{'0' * 32} /usr/bin/tool\n"}, "1 content: usr/bin/tool"),
    ("image files", changed("tree", "f 755 0 0 1234", "f 4755 0 0 1234"), "1 metadata: usr/bin/tool"),
    ("image files", changed("tree", " security.capability=0100000200200000", ""), "1 metadata: usr/bin/tool"),
    (
        "image files",
        {"tree": GOOD["node1"]["tree"] + "f 644 0 0 1 1 8 1 1:2 /usr/bin/other\\x0a\n"},
        r"1 added: usr/bin/other\n",
    ),
    ("disk files", {"sums": "- /usr/bin/tool\n"}, "1 content: usr/bin/tool"),
    (
        "disk files",
        changed("tree", "usr/bin/tool security.capability=0100000200200000", "usr/bin/gone"),
        "1 missing: usr/bin/tool",
    ),
]


@pytest.mark.parametrize(
    ("name", "facts", "problem"), WRONG, ids=[f"{number}-{name}" for number, (name, _, _) in enumerate(WRONG)]
)
def test_wrong(name: str, facts: dict[str, str | None], problem: str) -> None:
    check = next(check for check in checks.CHECKS if check.name == name)
    finding = check.evaluate(subject("node1" if "compute" in check.roles else "oscarhead", **facts))
    assert any(problem in text for text in finding.problems), finding


def test_every_check_was_shown_to_fail() -> None:
    shown = {name for name, _, _ in WRONG} | {"image disk"}
    assert shown == {check.name for check in checks.CHECKS}


def test_head_kernel_is_a_locked_package() -> None:
    assert checks.kernel(subject("oscarhead", kernel="6.12.0-1-amd64\n")).problems
    assert f"linux-image-{RELEASE}" in PACKAGES


def test_a_slow_connection_is_no_wrong_clock() -> None:
    assert checks.clock(subject("node1", clock="1763700000.0 1763700004.0 1763700005.0\n")).problems == ()


def test_an_interface_that_an_opkg_brings_is_told_of() -> None:
    bridge = GOOD["node1"]["addresses"] + "3: docker0    inet 172.17.0.1/16 brd 172.17.255.255 scope global docker0\n"
    finding = checks.network(subject("node1", addresses=bridge))
    assert (finding.problems, finding.seen) == ((), "eth0 192.168.50.11/24, besides docker0 172.17.0.1/16")


def test_stalls_are_no_trouble() -> None:
    log = GOOD["node1"]["dmesg"] + "[ 30.0] watchdog: BUG: soft lockup - CPU#0 stuck for 23s!\n"
    assert checks.kernel_log(subject("node1", dmesg=log)).problems == ()


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("host name", {"hostname": None}),
        ("hardware", {"hardware": "grep: not found\n"}),
        ("network", {"addresses": "sh: ip: not found\n"}),
        ("clock", {"clock": " 1763700000.5\n"}),
        ("kernel log", {"dmesg": "dmesg: read kernel buffer failed: Operation not permitted\n"}),
        ("services", {"services": "System has not been booted with systemd as init system (PID 1). Can't operate.\n"}),
        ("partitions", {"labels": "vda 00ff\n"}),
        ("partitions", {"blocks": "vda vda\n"}),
        ("partitions", {"mounts": ""}),
        ("file systems", {"mounts": "nonsense\n"}),
        ("swap", {"swaps": "Filename\n/dev/vda2 partition\n"}),
        ("packages", {"packages": "sh: dpkg-query: not found\n"}),
        ("packages", {"packages": ""}),
        ("image files", {"tree": "sh: perl: not found\n"}),
        ("image files", {"sums": "there are no checksums to compare with\n", "elapsed": None}),
        ("image files", {"sums": "md5sum ended with 127\n", "elapsed": None}),
        ("image files", {"elapsed": "9 3\n"}),
    ],
)
def test_unreadable_facts_are_an_error_and_not_a_verdict(name: str, facts: dict[str, str | None]) -> None:
    check = next(check for check in checks.CHECKS if check.name == name)
    with pytest.raises(FactsError):
        check.evaluate(subject("node1", **facts))


def test_disks_for_data_are_looked_for_by_place_and_size() -> None:
    whole = subject("node1")
    machine = dataclasses.replace(whole.machine, disks=(DataDisk("data", 64, "kept"), DataDisk("more", 32, "kept")))
    blocks = whole.facts.text("blocks")
    for more, problems in {
        "vdb vdb 254:16 131072 0\nvdc vdc 254:32 65536 0\n": (),
        "xvdb xvdb 202:16 131072 0\nxvdc xvdc 202:32 65536 0\n": (),
        "vdb vdb 254:16 131072 0\n": ("there is no disk vdc or xvdc, which is to be more",),
        "vdb vdb 254:16 65536 0\nvdc vdc 254:32 65536 0\n": ("vdb (data) has 32 MiB, not 64",),
    }.items():
        facts = subject("node1", blocks=blocks + more).facts
        assert checks.hardware(dataclasses.replace(whole, machine=machine, facts=facts)).problems == problems
