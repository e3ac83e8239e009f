"""The recipes of this project are right, and what is wrong in a folder of recipes is told all at once."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline.errors import ManifestError
from pipeline.guests.guest import Init
from pipeline.manifests.recipes import load
from pipeline.opkgs import folders
from pipeline.opkgs.model import Opkg, packages
from pipeline.opkgs.phases import Side
from pipeline.step import Plan
from tests.manifests.conftest import DISTRO, Writer, opkg_text

RECIPES = Path(__file__).parents[2] / "recipes"


def test_our_own_recipes_have_no_mistakes() -> None:
    recipes = load(RECIPES)
    assert planning.make(recipes).told() == []
    assert {"debian12", "debian13"} <= set(recipes.names("clusters"))
    for name in recipes.names("clusters"):
        cluster = recipes.describe(name)
        assert "sis" in cluster.opkgs
        assert "slurm" not in cluster.opkgs or cluster.opkgs.index("sis") < cluster.opkgs.index("slurm")


def test_all_mistakes_of_all_recipes_at_once(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": "x = 1",
            "clusters/b.toml": 'extends = "a"',
            "hosts/h.toml": "",
            "opkgs/slurm/config.xml": "<oscar>",
        }
    )
    broken = planning.make(load(folder)).broken
    assert {recipe: [line.split(":")[0] for line in mistakes.splitlines()] for recipe, mistakes in broken.items()} == {
        "clusters/a": ["clusters/a.toml", "clusters/a.toml"],
        "clusters/b": ["clusters/a.toml", "clusters/b.toml"],
        "hosts/h": ["hosts/h.toml"],
        "opkgs/slurm": ["opkgs/slurm/config.xml"],
    }


FILTERS = """
<serverDeps>
  <requires><filters><dist>Debian</dist></filters><pkg>jq</pkg></requires>
  <requires><filters><arch>any</arch></filters><pkg>nano</pkg></requires>
  <requires><filters><dist version="Bookworm">debian</dist></filters><pkg>tree</pkg></requires>
  <requires><filters><dist rel=">" version="etch">debian</dist></filters><pkg>less</pkg></requires>
  <requires><filters><dist rel="&lt;" version="trixie">DEBIAN</dist></filters><pkg>zip</pkg></requires>
  <requires><filters><dist version="12.5">debian</dist></filters><pkg>never</pkg></requires>
  <requires><filters><dist>debain</dist></filters><pkg>never</pkg></requires>
  <requires><filters><dist>bookworm</dist></filters><pkg>never</pkg></requires>
  <requires><filters><dist version="11">debian</dist><dist version="4">fc</dist><dist>ubuntu</dist></filters>
    <pkg>elsewhere</pkg></requires>
</serverDeps>
"""


def test_what_filters_mean_is_understood_and_what_never_fits_is_told(recipes: Writer) -> None:
    trixie = DISTRO.replace("bookworm", "trixie").replace('"12"', '"13"')
    found = load(
        recipes(
            {
                "opkgs/app/config.xml": opkg_text("app", FILTERS),
                "distros/debian13.toml": trixie,
                "distros/bad.toml": "x = 1",
            }
        )
    )
    assert packages(found.opkg("app"), "server", found.distro("debian12")) == ["jq", "nano", "tree", "less", "zip"]
    assert packages(found.opkg("app"), "server", found.distro("debian13")) == ["jq", "nano", "less"]
    assert [(str(warning).partition(",")[0], str(warning).partition("; ")[2]) for warning in found.warnings()] == [
        (
            'opkgs/app/config.xml:12: filters.dist: "etch" is no version of debian that is known here',
            "expected one like 12 (bookworm), 13 (trixie)",
        ),
        ('opkgs/app/config.xml:14: filters.dist: "12.5" is never the version of debian', 'did you mean "12"?'),
        (
            'opkgs/app/config.xml:15: filters.dist: "debain" is no distribution that is known here',
            'did you mean "debian"?',
        ),
        (
            'opkgs/app/config.xml:16: filters.dist: "bookworm" is no distribution that is known here',
            "did you mean version 12 of debian?",
        ),
    ]


def test_a_mistake_elsewhere_does_not_hinder(recipes: Writer) -> None:
    folder = recipes({"clusters/a.toml": 'distro = "debian12"', "clusters/b.toml": "x = 1"})
    assert load(folder).describe("a").name == "a"


def test_mistakes_of_what_a_cluster_refers_to(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'distro = "d"',
            "distros/d.toml": "",
            "hosts/local.toml": "",
            "clusters/b.toml": 'distro = "debian12"',
            "netboot/amd64.toml": "",
        }
    )
    for cluster, wanted in (
        ("a", {"distros/d.toml", "hosts/local.toml"}),
        ("b", {"hosts/local.toml", "netboot/amd64.toml"}),
    ):
        with pytest.raises(ManifestError) as caught:
            load(folder).cluster(cluster)
        assert {line.split(":")[0] for line in caught.value.message.splitlines()} == wanted
    (folder / "netboot" / "amd64.toml").unlink()
    with pytest.raises(ManifestError, match=r'clusters/b.toml:1: distro: "amd64" is not in netboot; expected one of'):
        load(folder).cluster("b")


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("clusters", "store", '"store" is a folder of artifacts/ already; expected another file name, none of cache, '),
        ("distros", "run", '"run" is a folder of artifacts/ already'),
        ("clusters", "testbed-debian12", 'names that begin with "testbed-" are for the testbeds of VM containers'),
        ("distros", "dom0-debian12", 'names that begin with "dom0-" are for what makes a Xen host'),
        ("clusters", "Mine", "the file's name is no name; expected letters a-z"),
    ],
)
def test_names_that_stand_for_something_else_are_refused(recipes: Writer, kind: str, name: str, wanted: str) -> None:
    found = load(recipes({f"{kind}/{name}.toml": 'distro = "debian12"' if kind == "clusters" else DISTRO}))
    with pytest.raises(ManifestError) as caught:
        (found.cluster if kind == "clusters" else found.distro)(name)
    assert caught.value.message.startswith(f"{kind}/{name}.toml:1: {wanted}")


def test_no_cluster_can_be_called_like_a_folder_of_the_artifacts(recipes: Writer) -> None:
    source = "".join(path.read_text() for path in (RECIPES.parent / "pipeline").rglob("*.py"))
    folders = set(re.findall(r'\b(?:artifacts|\bown) / "([a-z0-9]+)"', source)) - {"amd64"}
    assert {"store", "run", "pool", "identity"} <= folders
    found = load(recipes({f"clusters/{name}.toml": 'distro = "debian12"' for name in folders}))
    for name in folders:
        with pytest.raises(ManifestError, match="is a folder of artifacts/ already"):
            found.cluster(name)


def test_an_opkg_that_cannot_be_read_is_missed_by_whoever_requires_it(recipes: Writer) -> None:
    need = "<requires><pkg>mta</pkg></requires>"
    folder = recipes(
        {
            "opkgs/munge/config.xml": opkg_text("munge", kind="includde"),
            "opkgs/mail/config.xml": opkg_text("mail", need),
            "clusters/a.toml": 'distro = "debian12"\nopkgs = ["slurm"]',  # which requires munge
            "clusters/b.toml": 'distro = "debian12"\nopkgs = ["mail"]',
            "clusters/c.toml": 'distro = "debian12"',
        }
    )
    broken = planning.make(load(folder)).broken
    assert set(broken) == {"opkgs/munge", "clusters/a", "clusters/b"}
    assert broken["clusters/a"] == broken["opkgs/munge"]
    assert broken["clusters/b"] == (
        'clusters/b.toml:2: opkgs: OPKG "mail" requires "mta", which no OPKG provides, unless one does that cannot be '
        "read: munge"
    )


def test_a_link_that_leads_nowhere_is_an_opkg_that_cannot_be_read(recipes: Writer) -> None:
    folder = recipes({"clusters/c.toml": 'distro = "debian12"'})
    (folder / "opkgs/away").symlink_to("/nowhere/away")
    broken = planning.make(load(folder)).broken
    assert list(broken) == ["opkgs/away"]
    assert broken["opkgs/away"].startswith("opkgs/away")


def test_old_opkgs_find_each_other_by_their_old_names(recipes: Writer) -> None:
    old = "<oscar><name>Old</name><version><major>1</major></version><summary>old</summary><rpmlist/>{}</oscar>"
    need = "<requires><type>package</type><name>{}</name></requires>"
    folder = recipes(
        {
            "opkgs/sync_files/config.xml": old.format(""),
            "opkgs/perl-Qt/config.xml": old.format(""),
            "opkgs/opium/config.xml": old.format(need.format("sync_files") + need.format("perl-Qt")),
            "clusters/c.toml": 'distro = "debian12"\nopkgs = ["opium"]',
        }
    )
    assert load(folder).cluster("c").opkgs == ("base", "sis", "sync_files", "perl-Qt", "opium")


def test_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder"):
        load(tmp_path / "recipes")
    assert load(tmp_path).names("clusters") == []
    assert planning.make(load(tmp_path)) == Plan()


def test_wrong_choices_of_opkgs_are_told_at_the_manifest(recipes: Writer) -> None:
    folder = recipes(
        {
            "clusters/a.toml": 'distro = "debian12"\nopkgs = ["pbs", "slurm", "old"]\n',
            "opkgs/pbs/config.xml": opkg_text("pbs", "<conflicts><pkg>slurm</pkg></conflicts>"),
            "opkgs/old/config.xml": opkg_text("old", '<filters><dist version="4">fc</dist></filters>'),
        }
    )
    with pytest.raises(ManifestError) as caught:
        load(folder).cluster("a")
    assert caught.value.message.splitlines() == [
        'clusters/a.toml:2: opkgs: OPKG "old" is not for debian 12 on amd64; it is for fc=4',
        'clusters/a.toml:2: opkgs: OPKG "slurm" conflicts with "pbs"; expected one of them',
    ]


def test_what_machines_of_an_old_system_cannot_have_is_refused(tmp_path: Path) -> None:
    shutil.copytree(RECIPES, tmp_path / "recipes", symlinks=True)
    recipe = tmp_path / "recipes/clusters/fc4.toml"

    def told(more: str) -> str:
        recipe.write_text(f'distro = "fc4"\nopkgs = ["sis"]\n{more}\n')
        with pytest.raises(ManifestError) as caught:
            load(tmp_path / "recipes").cluster("fc4")
        return caught.value.message

    assert "runs Xen, for whose disks fc4 has no drivers" in told('host = "debian12"')
    assert "our ramdisk does not run on the kernel of fc4-i386" in told('kernel_from = "fc4-i386"')
    assert 'did you mean "debian12"?' in told('kernel_from = "debain12"')
    disks = "".join(f'{{}}.disks.d{number}.size = "1G"\n' for number in range(2))
    assert "head.disks: 2 disks; expected at most 1 beside those of the system: machines of fc4 have IDE" in told(
        disks.format("head", "head")
    )
    assert "machines.node1.disks: more than 3 disks" in told(
        disks.format("compute", "compute")
        + disks.format("machines.node1", "machines.node1").replace("d0", "e0").replace("d1", "e1")
    )


def test_what_an_opkg_holds_is_looked_at_once_for_all_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    content = folders.content

    def counted(opkg: Opkg, side: Side, init: Init) -> tuple[tuple[str, str], ...]:
        looked.append((opkg.name, side, init))
        return content(opkg, side, init)

    monkeypatch.setattr(folders, "content", counted)
    planning.make(load(Path(__file__).parents[2] / "recipes"), {})
    assert len(looked) == len(set(looked)) > 0
