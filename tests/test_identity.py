"""Identity: made once, never readable to others, and whole on the head node's disk."""

from __future__ import annotations

import dataclasses
import stat
import tarfile
from pathlib import Path

import pytest

from pipeline.description import Cluster, Interface, Machine, Network, Secret
from pipeline.identity import ARCHIVE_PREFIX, Identity


def machine(name: str, index: int) -> Machine:
    network = "private" if index else "public"
    card = Interface("eth0", network, f"00:16:3e:00:00:{index:02x}", f"10.0.{index}.1", 24)
    return Machine(name, "compute" if index else "head", index, 384, 1, 2305, (), (card,))


@pytest.fixture
def cluster() -> Cluster:
    networks = (Network("public", "10.0.0.0/24", "10.0.0.254"), Network("private", "10.0.1.0/24", ""))
    return Cluster(
        "c",
        "debian12",
        "amd64",
        "oscar.internal",
        "local",
        networks,
        machine("head", 0),
        (machine("node1", 1), machine("node2", 2)),
        ("munge",),
        "debian",
        (Secret("/etc/munge/munge.key", 128),),
    )


def test_secrets_are_made_once_and_kept(tmp_path: Path, cluster: Cluster) -> None:
    folder = tmp_path / "identity"
    Identity(folder, cluster)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Identity(folder, cluster)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_flavour_says_which_type_of_keys_it_knows(tmp_path: Path, cluster: Cluster) -> None:
    folder = tmp_path / "identity"
    Identity(folder, cluster)
    old = dataclasses.replace(cluster, guest="fedora-core")  # the recipe names another distribution now
    identity = Identity(folder, old)
    for path in (identity.person_key, folder / "machines/head/etc/ssh/ssh_host_rsa_key",
                 folder / "machines/node1/root/.ssh/id_rsa"):  # fmt: skip
        assert path.exists()
    assert identity.person_key.with_suffix(".pub").read_text().startswith("ssh-rsa ")
    assert identity.person_key.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----"), "what OpenSSH 4 reads"
    assert identity.known_hosts.read_text().split()[1] == "ssh-rsa"
    authorized = (folder / "machines/node1/root/.ssh/authorized_keys").read_text()
    assert authorized.startswith("ssh-rsa "), "an account's key is of the other type too"


def test_two_clusters_share_no_secret(tmp_path: Path, cluster: Cluster) -> None:
    one, two = (Identity(tmp_path / name, cluster) for name in ("one", "two"))
    for path in ("secrets/etc/munge/munge.key", "person/id_ed25519", "machines/node1/etc/ssh/ssh_host_ed25519_key"):
        assert (one.folder / path).read_bytes() != (two.folder / path).read_bytes()


def test_nobody_else_can_read_a_secret(tmp_path: Path, cluster: Cluster) -> None:
    identity = Identity(tmp_path / "identity", cluster)
    identity.write_archive(tmp_path / "identity.img")
    assert stat.S_IMODE(identity.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "identity.img").stat().st_mode) == 0o600
    for path in identity.folder.rglob("*"):
        private = path.name in ("munge.key", "id_ed25519", "ssh_host_ed25519_key")
        assert not private or stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_new_node_gets_an_identity_and_the_others_keep_theirs(tmp_path: Path, cluster: Cluster) -> None:
    smaller = dataclasses.replace(cluster, nodes=cluster.nodes[:1])
    key = "machines/node1/etc/ssh/ssh_host_ed25519_key"
    before = (Identity(tmp_path / "identity", smaller).folder / key).read_bytes()
    folder = Identity(tmp_path / "identity", cluster).folder
    assert (folder / key).read_bytes() == before
    known = (folder / "machines/node1/etc/ssh/ssh_known_hosts").read_text()
    assert all(name in known for name in ("head,", "node1,", "node2,"))


def test_secrets_that_nobody_declares_reach_no_machine_and_come_back_as_they_were(
    tmp_path: Path, cluster: Cluster
) -> None:
    def told(described: Cluster) -> dict[str, bytes]:
        Identity(tmp_path / "identity", described).write_archive(tmp_path / "identity.img")
        with tarfile.open(tmp_path / "identity.img") as archive:
            return {
                member.name: file.read()
                for member in archive
                if "munge" in member.name and (file := archive.extractfile(member))
            }

    before = told(cluster)
    assert sorted(before) == [
        f"{ARCHIVE_PREFIX}/{place}/etc/munge/munge.key" for place in ("nodes/node1", "nodes/node2", "root")
    ]
    assert len(set(before.values())) == 1 and len(before[min(before)]) == 128
    assert told(dataclasses.replace(cluster, secrets=())) == {}
    assert told(cluster) == before
    longer = told(dataclasses.replace(cluster, secrets=(Secret("/etc/munge/munge.key", 256),)))
    assert {len(data) for data in longer.values()} == {256}


def test_the_identity_disk_is_a_tar_stream_with_a_part_for_each_machine(tmp_path: Path, cluster: Cluster) -> None:
    disk = tmp_path / "identity.img"
    Identity(tmp_path / "identity", cluster).write_archive(disk)
    assert disk.stat().st_size % 512 == 0
    with tarfile.open(disk) as archive:
        names = archive.getnames()
        assert names[0].startswith(ARCHIVE_PREFIX)
        assert f"{ARCHIVE_PREFIX}/root/etc/munge/munge.key" in names
        assert f"{ARCHIVE_PREFIX}/nodes/node2/etc/ssh/ssh_host_ed25519_key" in names
        assert {(member.uid, member.gid) for member in archive} == {(0, 0)}
        keys = archive.extractfile(f"{ARCHIVE_PREFIX}/root/root/.ssh/authorized_keys")
        assert keys is not None
        assert [line.split()[-1] for line in keys.read().decode().splitlines()] == ["root@c", "person@c"]
