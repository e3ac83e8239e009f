"""Berkeley DB files: values changed in place, and one form for one content; made and read by Perl's DB_File."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.packages.rpm import berkeley

#: Several pages, items longer than one, and some that have gone.
_WRITE = """
use DB_File; use JSON::PP; use Fcntl;
my ($file, $kind) = @ARGV;
my ($items, $gone) = @{decode_json(join("", <STDIN>))};
tie(my %table, "DB_File", $file, O_RDWR | O_CREAT, 0644, $kind eq "hash" ? $DB_HASH : $DB_BTREE) or die $!;
$table{$_} = $items->{$_} for sort keys %$items;
delete $table{$_} for @$gone;
"""
_READ = """
use DB_File; use JSON::PP; use Fcntl;
tie(my %table, "DB_File", $ARGV[0], O_RDONLY, 0644, $ARGV[1] eq "hash" ? $DB_HASH : $DB_BTREE) or die $!;
print encode_json({%table});
"""
_ITEMS = {f"key-{number}": f"{number:05}" * (number % 7 * 300 + 1) for number in range(60)}
_GONE = [f"key-{number}" for number in range(0, 60, 5)]
_LEFT = {key: value for key, value in _ITEMS.items() if key not in _GONE}


def _perl(script: str, file: Path, kind: str, given: str = "") -> str:
    words = ["perl", "-e", script, str(file), kind]
    done = subprocess.run(words, check=True, capture_output=True, text=True, input=given)
    return done.stdout


def _made(file: Path, kind: str) -> Path:
    _perl(_WRITE, file, kind, json.dumps([_ITEMS, _GONE]))
    return file


def _read(file: Path, kind: str) -> object:
    if verify := shutil.which("db5.3_verify"):
        subprocess.run([verify, file], check=True)
    return json.loads(_perl(_READ, file, kind))


@pytest.mark.parametrize("kind", ["hash", "tree"])
def test_one_content_has_one_form(tmp_path: Path, kind: str) -> None:
    made = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        made.append(_made(tmp_path / str(number) / "table", kind))
    assert made[0].read_bytes() != made[1].read_bytes()
    for file in made:
        assert berkeley.is_one(file)
        berkeley.settle(file)
        assert _read(file, kind) == _LEFT
    assert made[0].read_bytes() == made[1].read_bytes()


#: What refers to a key's values on other pages, before that key: bytes that mean nothing, and others in their place.
_REFERENCES = {
    "hash": (rb"\x04\0{3}(.\0{3}\x01key-)", b"\x04abc\\1"),
    "btree": (rb"\0\0\x02\0(.\0{3})\0{4}(\x05\0\x01key-)", b"ab\x02c\\1defg\\2"),
}


@pytest.mark.parametrize("kind", _REFERENCES)
def test_keys_with_many_values(tmp_path: Path, kind: str) -> None:
    """These lie on pages of their own."""
    load = shutil.which("db5.3_load")
    assert load, "db5.3-util is missing: ./bootstrap true"
    given = "".join(f"key-{number % 5}\nvalue-{number:05}{'x' * 40}\n" for number in range(2000))
    file = tmp_path / "table"
    words = [load, "-T", "-t", kind, "-c", "duplicates=1", "-c", "dupsort=1", str(file)]
    subprocess.run(words, check=True, input=given, text=True)

    def said() -> bytes:
        subprocess.run(["db5.3_verify", "-q", file], check=True)
        return subprocess.run(["db5.3_dump", "-p", file], check=True, capture_output=True).stdout

    before = said()
    berkeley.settle(file)
    assert said() == before
    settled, (form, others) = file.read_bytes(), _REFERENCES[kind]
    scribbled, count = re.subn(form, others, settled, flags=re.DOTALL)
    assert count
    file.write_bytes(scribbled)
    assert said() == before
    berkeley.settle(file)
    assert file.read_bytes() == settled


def test_what_was_deleted_is_gone(tmp_path: Path) -> None:
    file = _made(tmp_path / "table", "tree")
    berkeley.settle(file)
    assert b"00005" * 100 not in file.read_bytes()


def test_each_file_has_an_id_of_its_own(tmp_path: Path) -> None:
    files = [_made(tmp_path / name, "hash") for name in ("one", "two")]
    for file in files:
        berkeley.settle(file)
    assert files[0].read_bytes()[52:72] != files[1].read_bytes()[52:72]


def test_values_are_changed_in_place(tmp_path: Path) -> None:
    file = _made(tmp_path / "table", "hash")
    berkeley.change(file, lambda value: value.replace(b"0", b"x"))
    assert _read(file, "hash") == {key: value.replace("0", "x") for key, value in _LEFT.items()}


@pytest.mark.parametrize("kind", ["hash", "tree"])
def test_a_damaged_file_is_refused(tmp_path: Path, kind: str) -> None:
    whole = _made(tmp_path / "whole", kind).read_bytes()
    file = tmp_path / "table"
    for place in range(0, len(whole), 4999):
        file.write_bytes(whole[:place] + b"\xff" * 12 + whole[place + 12 :])
        if berkeley.is_one(file):
            try:
                berkeley.change(file, lambda value: value)
                berkeley.settle(file)
            except berkeley.DAMAGE:
                continue
    file.write_bytes(whole[:-1])
    with pytest.raises(berkeley.DAMAGE):
        berkeley.settle(file)
    file.write_bytes(b"no such file")
    assert not berkeley.is_one(file)
    file.unlink()
    file.symlink_to(tmp_path / "whole")
    assert not berkeley.is_one(file)
