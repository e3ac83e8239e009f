"""Small qcow2 files, as qemu-img understands them."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import qcow2

SIZE = 1100 << 20
LAST = SIZE // qcow2.CLUSTER - 1


def img(*words: object) -> str:
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("numbers", [(), (0,), (5, 6, 8191, 8192, LAST)])
def test_it_is_what_lies_below_but_for_its_own_clusters(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    below, made, whole = tmp_path / "base.img", tmp_path / "disk.qcow2", tmp_path / "whole"
    with below.open("wb") as file:
        file.truncate(SIZE)
        file.seek(7 * qcow2.CLUSTER)
        file.write(b"below")
    clusters = {number: os.urandom(qcow2.CLUSTER) for number in numbers}
    qcow2.write(made, SIZE, clusters)
    assert qcow2.size_of(made) == SIZE
    img("check", made)
    told = json.loads(img("info", "--output=json", made))
    assert (told["backing-filename"], told["backing-filename-format"]) == ("base.img", "raw")
    img("convert", "-O", "raw", made, whole)
    with below.open("r+b") as file:
        for number, data in clusters.items():
            file.seek(number * qcow2.CLUSTER)
            file.write(data)
    subprocess.run(["cmp", below, whole], check=True, timeout=60)


@given(st.sets(st.integers(0, 20) | st.integers(8180, 8200) | st.integers(0, LAST), max_size=60))
def test_its_own_clusters_are_found_again(numbers: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "disk.qcow2")
        data = {number: number.to_bytes(8, "big") * (qcow2.CLUSTER // 8) for number in numbers}
        qcow2.write(made, SIZE, data)
        whole = made.read_bytes()
        found = {}
        pieces = qcow2.pieces(made)
        for place, number, count in pieces:
            for more in range(count):
                begin = (place + more) * qcow2.CLUSTER
                found[number + more] = whole[begin : begin + qcow2.CLUSTER]
        assert found == data
        assert len(pieces) == len([number for number in numbers if number - 1 not in numbers])


@given(st.sets(st.integers(0, LAST), max_size=40))
def test_the_order_of_what_is_given_is_not_seen(numbers: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = {number: number.to_bytes(8, "big") * (qcow2.CLUSTER // 8) for number in numbers}
        one, other = Path(folder, "one"), Path(folder, "other")
        qcow2.write(one, SIZE, data)
        qcow2.write(other, SIZE, dict(reversed(data.items())))
        assert one.read_bytes() == other.read_bytes()


def test_more_than_one_block_of_counts(tmp_path: Path) -> None:
    clusters = dict.fromkeys(range(33_000), bytes(qcow2.CLUSTER))
    qcow2.write(tmp_path / "disk.qcow2", 40_000 * qcow2.CLUSTER, clusters)
    (tmp_path / "base.img").touch()
    img("check", tmp_path / "disk.qcow2")


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk.qcow2").write_bytes(bytes(64))
    with pytest.raises(ValueError, match="no qcow2"):
        qcow2.size_of(tmp_path / "disk.qcow2")
    with pytest.raises(ValueError, match="has 1 bytes"):
        qcow2.write(tmp_path / "short.qcow2", SIZE, {0: b"x"})
