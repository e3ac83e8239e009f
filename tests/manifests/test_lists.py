"""Lists of OSCAR's in manifests: what they hold stands in their place, and mistakes are told where they are."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import plan as planning
from pipeline.errors import ManifestError
from pipeline.manifests import lists, loader
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.recipes import load
from pipeline.mistakes import Mistake
from tests.growing import require_linear
from tests.manifests.conftest import DISTRO, Writer

#: Real lists of the OSCAR project, which are not ours to copy.
SAMPLES = Path(os.environ.get("XEN_OSCAR_SAMPLES") or Path(__file__).parents[3] / "shared" / "samples")

PACKAGES = "bash\n\n# a comment\n  vim  \nbash\n/etc/redhat-release\nlibc6:i386\n"
SET = "<package_set><name>Mine</name><packages><opkg>slurm</opkg><pkg>x</pkg></packages></package_set>"
DISK = """# of SystemInstaller
/dev/hda1        100  ext3  /boot      defaults bootable
/dev/hda6        *    ext3  /          defaults
/dev/hda5        512  swap
/dev/shm         -    tmpfs /dev/shm   defaults
nfs_oscar:/home  -    nfs   /home      rw
"""


def cluster(recipes: Writer, text: str, **files: str) -> Cluster:
    folder = recipes({"clusters/c.toml": 'distro = "debian12"\n' + text})
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return load(folder).cluster("c")


def test_a_package_list_stands_for_what_it_lists(recipes: Writer) -> None:
    distro = DISTRO.replace('base = ["systemd"]', 'base = ["systemd", { list = "../mine.pkglist" }, "less", "vim"]')
    folder = recipes({"distros/debian12.toml": distro, "clusters/c.toml": 'distro = "debian12"\n'})
    (folder / "mine.pkglist").write_text(PACKAGES)
    read = load(folder)
    assert read.distro("debian12").packages.base == ("systemd", "bash", "vim", "libc6:i386", "less", "vim")
    plan = planning.make(load(folder))
    assert str((folder / "mine.pkglist").absolute()) in plan.reads
    assert [one.partition("mine.pkglist")[2] for one in plan.warnings if "mine" in one] == [
        ':6: "/etc/redhat-release" is a path and no package; passed over'
    ]


def test_a_package_set_stands_for_its_opkgs(recipes: Writer) -> None:
    for text in (SET, "slurm\n"):
        assert cluster(recipes, 'opkgs = [{ list = "../set.xml" }, "munge"]\n', set_xml=text).opkgs[-1] == "slurm"


def test_a_disk_file_stands_for_its_partitions(recipes: Writer) -> None:
    text = '[compute]\ndisk = "4G"\nfilesystems = [{ list = "../ide.disk" }]\n'
    found = cluster(recipes, text, ide_disk=DISK).compute
    assert [(item.mount, item.size) for item in found.filesystems] == [("/boot", 100), ("swap", 512), ("/", 0)]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_lists_of_other_systems_and_times(tmp_path: Path, codec: str, ends: str) -> None:
    """Whose comments may be in any letters."""
    file = tmp_path / "list"
    mark = b"\xfe\xff" if codec == "utf-16-be" else b""
    file.write_bytes(mark + "# für é\n\n bash\t\n#\n  # ü\nvim\n".replace("\n", ends).encode(codec))
    assert list(lists.packages(file, [])) == [(3, "bash"), (6, "vim")]
    file.write_bytes(mark + DISK.replace("\n", ends).encode(codec))
    assert [(line, item["mount"]) for line, item in lists.filesystems(file, [])] == [
        (2, "/boot"),
        (4, "swap"),
        (3, "/"),
    ]
    name = {"utf-8-sig": "UTF-8", "latin-1": "ISO-8859-1"}.get(codec, codec[:6])
    text = f'<?xml version="1.0" encoding="{name}"?><!-- é -->{SET}'.replace("><", f">{ends}<")
    file.write_bytes(mark + text.encode(codec))
    assert [name for _, name in lists.opkgs(file, [])] == ["slurm"]


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b"# \xe9\r\rbash\rvi\xe9\r", "list:4: not UTF-8 text; expected the encoding UTF-8"),
        (b"\xef\xbb\xbfbash\nvi\xe9\n", "list:2: not UTF-8 text"),
        (b"\xff\xfeb\0a\0s\0h\0\n", "list:1: it begins as UTF-16 text, and is none"),
    ],
)
def test_text_of_no_encoding_is_told_with_its_line(tmp_path: Path, raw: bytes, wanted: str) -> None:
    file = tmp_path / "list"
    file.write_bytes(raw)
    with pytest.raises(ManifestError, match=wanted):
        list(lists.packages(file, []))


@pytest.mark.parametrize("kind", ["tmpfs", "TMPFS", "auto", "ramfs", "usbfs", "nfs4"])
def test_what_is_on_no_partition_is_passed_over(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "disk"
    file.write_text(f"/dev/sda1 9 ext3 /\n/dev/fd0 - {kind} /mnt/floppy\n/dev/sda2 9 Swap\n")
    warnings: list[Mistake] = []
    assert [item["mount"] for _, item in lists.filesystems(file, warnings)] == ["/", "swap"]
    assert [(one.line, one.text) for one in warnings] == [(2, f"{kind.lower()} is no partition; passed over")]


def test_what_of_a_disk_file_is_not_acted_upon_is_told(tmp_path: Path) -> None:
    file = tmp_path / "disk"
    file.write_text(
        "/dev/sda1 9 ext3 /boot defaults bootable\n/dev/sda2 * extended\n/dev/sda5 9 xfs /scratch noatime\n"
        "/dev/sda6 9 swap\n/dev/sda7 * _ROOTFS_ / -\n"
    )
    warnings: list[Mistake] = []
    found = [item["mount"] for _, item in lists.filesystems(file, warnings)]
    assert found == ["/boot", "/scratch", "swap", "/"]
    assert [(one.line, one.text.partition(";")[0]) for one in warnings] == [
        (2, "an extended partition is made where one is needed"),
        (3, '"xfs" is not made here'),
        (3, 'options "noatime" are not acted upon'),
    ]


@pytest.mark.parametrize(
    ("text", "content", "wanted"),
    [
        ('opkgs = [{ list = "../x" }]', "slurn\n", r'\bx:1: opkgs\[0\]: "slurn" is not in .*did you mean "slurm"'),
        ('opkgs = ["base", { list = "../x" }, "y"]', "munge\n", r'c\.toml:2: opkgs\[2\]: "y" is not in'),
        ('opkgs = [{ list = "../x" }]', "<a/>", r'\bx:1: "a" is no package set; expected the root element package_set'),
        ('opkgs = [{ list = "../x" }]', "<a", r"\bx:1: this is not XML"),
        ('opkgs = [{ list = "../none" }]', "", r"\bnone:1: cannot be read: No such file"),
        (
            'compute.filesystems = [{ list = "../x" }]',
            "raid1 /dev/md0 /dev/sda1",
            r'\bx:1: "raid1" cannot be made here',
        ),
        ('compute.filesystems = [{ list = "../x" }]', "/dev/md0 5 ext3 /", r'\bx:1: "/dev/md0" is no partition'),
        (
            'compute.filesystems = [{ list = "../x" }]',
            "/dev/sda1 99 ext3 /\n/dev/sdb1 9 ext3 /a",
            r'\bx:2: "/dev/sdb1" is on another disk',
        ),
        ('compute.filesystems = [{ list = "../x" }]', "/dev/sda1 1G ext3 /", r'\bx:1: "1G" is no size'),
        ('compute.filesystems = [{ list = "../x" }]', f"/dev/sda{'1' * 5000} 9 ext3 /", r"\bx:1: .* is no partition"),
        ('compute.filesystems = [{ list = "../x" }]', "/dev/sda0 9 ext3 /", r"\bx:1: .* is no partition"),
        (
            'compute.filesystems = [{ list = "../x" }]',
            "/dev/sda1 9 ext3 /\n/dev/sda1 9 ext3 /a",
            r'\bx:2: "/dev/sda1" is there twice',
        ),
        (
            'opkgs = [{ list = "../x" }]',
            "<package_set><packages><opkg/></packages></package_set>",
            r"\bx:1: opkg: no name",
        ),
        ('compute.filesystems = [{ list = "../x" }]', "/dev/sda1 99 ext3", r"\bx:1: no mount point"),
        (
            'compute.filesystems = [{ list = "../x" }]',
            "/dev/sda1 999 ext3 /\n/dev/sda2 99 ext3 /usr",
            r'\bx:2: compute\.filesystems\[1\]\.mount: "/usr" can\'t be on a partition of its own',
        ),
    ],
)
def test_mistakes_are_told_where_they_are(recipes: Writer, text: str, content: str, wanted: str) -> None:
    with pytest.raises(ManifestError) as caught:
        cluster(recipes, f"{text}\n", x=content)
    assert re.search(wanted, caught.value.message, re.MULTILINE), caught.value.message


def test_time_grows_with_the_list(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"

    def read(size: int) -> None:
        (tmp_path / "list").write_text("".join(f"p{number}\n" for number in range(size)))
        own = "".join(f'"q{number}", ' for number in range(size))
        file.write_text(f'packages = [{own}{{ list = "list" }}]\n')
        document = loader.read(file)
        lists.expand(document)
        assert len(document.data["packages"]) == 2 * size

    require_linear(read)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_whatever_a_list_holds_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("list") / "list"
    file.write_text(text, encoding="utf-8", newline="")
    for read in (lists.packages, lists.opkgs, lists.filesystems):
        warnings: list[Mistake] = []
        try:
            found = list(read(file, warnings))
        except ManifestError as error:
            assert error.message.startswith(str(file))
        else:
            assert all(0 < line <= text.count("\n") + 2 + text.count("\r") for line, _ in found) or found


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no lists of the OSCAR project here: XEN_OSCAR_SAMPLES=FOLDER")
def test_real_ones_are_read() -> None:
    warnings: list[Mistake] = []
    for file in SAMPLES.iterdir():
        if file.suffix in (".rpmlist", ".pkglist"):
            assert len(list(lists.packages(file, warnings))) >= 10, file
        elif file.suffix == ".xml":
            assert "sis" in [name for _, name in lists.opkgs(file, warnings)], file
        elif file.suffix == ".disk" and "raid" not in file.name:
            mounts = [item["mount"] for _, item in lists.filesystems(file, warnings)]
            assert mounts == ["/boot", "swap", "/"], file
