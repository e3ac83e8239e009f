"""Several checkouts, one artifacts folder: what is known by content is shared, what is known by name is not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import checkout
from pipeline.errors import UserError
from pipeline.hosts import idle, namespace
from pipeline.tasks import Graph

TOP = Path(__file__).resolve().parents[1]

Make = Callable[[str, Path | None], Graph]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a checkout with the project's recipes, and its task graph over the artifacts folder that is named."""

    def graph(name: str, artifacts: Path | None) -> Graph:
        top = tmp_path / name
        if not top.exists():
            shutil.copytree(TOP / "recipes", top / "recipes")
        monkeypatch.setenv("XEN_OSCAR_ARTIFACTS", str(artifacts or ""))
        return Graph(top)

    return graph


def places(graph: Graph) -> list[Path]:
    """All that is known by a name."""
    life = graph.lifecycle("debian12")
    return [
        life.run_dir,
        life.report_dir,
        graph.engine.store.link_path("image:debian12"),
        graph.lifecycle("debian12-xen").run_dir,
    ]


def test_a_checkout_alone_has_everything_in_one_place(tmp_path: Path, make: Make) -> None:
    graph = make("one", None)
    artifacts = tmp_path / "one/artifacts"
    assert places(graph) == [
        artifacts / "run/debian12",
        artifacts / "reports/debian12",
        artifacts / "debian12/image",
        artifacts / "run/debian12-xen",
    ]
    assert not (artifacts / "checkouts").exists()


def test_two_checkouts_share_the_store_and_nothing_that_has_a_name(tmp_path: Path, make: Make) -> None:
    first, second = make("one", tmp_path / "shared"), make("two", tmp_path / "shared")
    assert first.engine.store.root == second.engine.store.root == tmp_path / "shared/store"
    assert not set(places(first)) & set(places(second))
    assert places(make("one", tmp_path / "shared")) == places(first), "it finds its own again"


def test_one_that_uses_anothers_folder_takes_nothing_of_it(tmp_path: Path, make: Make) -> None:
    first, second = make("one", None), make("two", tmp_path / "one/artifacts")
    assert first.engine.store.root == second.engine.store.root
    assert not set(places(first)) & set(places(second))


def test_links_to_one_folder_are_one_folder(tmp_path: Path, make: Make) -> None:
    """`artifacts` that is a link to where there is room: two checkouts with such a link share."""
    (tmp_path / "large").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "artifacts").symlink_to(tmp_path / "large")
        shutil.copytree(TOP / "recipes", tmp_path / name / "recipes")
    first, second = make("one", None), make("two", None)
    assert first.engine.store.root == second.engine.store.root == tmp_path / "large/store"
    assert not set(places(first)) & set(places(second))


def test_checkouts_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    artifacts = tmp_path / "shared"
    folders = {checkout.own_folder(tmp_path / place / "My project: x", artifacts) for place in ("a", "b")}
    assert {folder.name.rpartition("-")[0] for folder in folders} == {"My-project-x"}
    assert len(folders) == 2


def test_a_folder_says_whose_it_is(tmp_path: Path, make: Make) -> None:
    make("one", tmp_path / "shared")
    _, own = checkout.own_folders(tmp_path / "shared")
    assert (own / "checkout").read_text() == f"{tmp_path / 'one'}\n"


def test_what_runs_for_any_checkout_stays_and_what_does_not_makes_room(tmp_path: Path, make: Make) -> None:
    first, second = make("one", tmp_path / "shared"), make("two", tmp_path / "shared")
    for name in ("debian12", "debian13"):
        folder = first.lifecycle(name).run_dir
        folder.mkdir(parents=True)
        (folder / "disk").write_text("used")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    mark = f"{os.getpid()} {namespace._start_time(os.getpid())} {boot}"
    (first.lifecycle("debian12").run_dir / "init.pid").write_text(mark)
    second.engine.collect(0, idle.run_folders(second.artifacts))
    assert first.lifecycle("debian12").run_dir.exists()
    assert not first.lifecycle("debian13").run_dir.exists()
    assert first.engine.own.exists()


def test_what_a_checkout_has_left_that_is_no_more_makes_room(tmp_path: Path, make: Make) -> None:
    first, second = make("one", tmp_path / "shared"), make("two", tmp_path / "shared")
    (first.engine.own / "identity").mkdir()
    second.engine.collect(0, idle.run_folders(second.artifacts))
    assert first.engine.own.exists()
    (tmp_path / "one").rename(tmp_path / "elsewhere")
    second.engine.collect(1 << 30, idle.run_folders(second.artifacts))
    assert first.engine.own.exists(), "there is room enough"
    kept = first.engine.own / "kept/c/node1.data.img"
    kept.parent.mkdir(parents=True)
    kept.touch()
    second.engine.collect(0, idle.run_folders(second.artifacts))
    assert kept.exists(), "what people wrote there may be wanted whatever becomes of the checkout"
    kept.unlink()
    second.engine.collect(0, idle.run_folders(second.artifacts))
    assert not first.engine.own.exists()


@pytest.mark.parametrize(
    "artifacts",
    [
        "/run/x",
        "/run/user/1000/artifacts",
        "/etc/libvirt/x",
        "/var/lib/libvirt/images",
        "two\nlines",
        "no\udce9utf-8",
        "d/" * 500,
    ],
)
def test_an_artifacts_folder_in_which_nothing_could_be_run_is_refused_at_the_start(make: Make, artifacts: str) -> None:
    with pytest.raises(UserError, match="artifacts") as caught:
        make("one", Path(artifacts))
    assert caught.value.hint
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("name", ["a:b", "two\nlines"])
def test_so_is_a_checkout(make: Make, name: str) -> None:
    with pytest.raises(UserError, match="checkout"):
        make(name, None)


@pytest.mark.parametrize("name", ["a:1,b", "My Projects", "100%", "it's", '"q"', "Überblick", "d" * 200])
def test_all_other_names_will_do(tmp_path: Path, make: Make, name: str) -> None:
    assert make("one", tmp_path / name).artifacts == tmp_path / name
