"""The plan: from recipes alone, every step with its inputs; a change reaches what depends on it and nothing else."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline import plan as planning
from pipeline import planned
from pipeline.manifests.recipes import load
from pipeline.planned import load_plan
from pipeline.step import Plan
from pipeline.store import Store
from tests import debpackages

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


@pytest.fixture(scope="module")
def plan() -> Plan:
    return planning.make(load(RECIPES))


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECIPES, tmp_path / "recipes", symlinks=True))


def changed(before: Plan, after: Plan) -> set[str]:
    """The tasks whose own recipe differs; what is made from them follows by keys."""
    return {task for task, artifact in after.artifacts.items() if before.artifacts.get(task) != artifact}


def test_every_input_is_a_step_and_there_is_no_circle(plan: Plan) -> None:
    for artifact in plan.artifacts.values():
        assert all(parent.task in plan.steps for parent in artifact.parents), artifact.task
    assert len(plan.below(plan.steps)) == len(plan.steps)


@pytest.mark.parametrize(
    "task",
    [
        "lock:debian12",
        "fetch:debian12",
        "root:debian12",
        "headnode:debian12",
        "image:debian12",
        "netboot:amd64",
        "disk:debian12/head",
        "disk:debian12/node1",
        "definition:debian12/head",
        "verify:debian12",
        "headnode:debian13",
        "xltools:debian12",
        "xenconfig:debian12/node1",
        "kernel:debian12",
        "definition:debian12-xen/node2",
    ],
)
def test_artifacts_have_the_names_that_people_use(plan: Plan, task: str) -> None:
    assert task in plan.artifacts


def test_planning_twice_gives_the_same_plan(plan: Plan) -> None:
    assert planning.make(load(RECIPES)) == plan


def test_configurations_are_checked_with_the_xl_that_is_nearest(recipes: Path) -> None:
    def tools(cluster: str) -> list[str]:
        return [parent.task for parent in planning.make(load(recipes)).steps[f"xenconfig:{cluster}/head"].parents]

    assert (tools("debian12"), tools("debian13")) == (["xltools:debian12"], ["xltools:debian13"])
    for distro, left in (("debian13", ["xltools:debian12"]), ("debian12", [])):
        manifest = recipes / "distros" / f"{distro}.toml"
        text = manifest.read_text()
        manifest.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("xl = ")))
        assert tools("debian13") == left


def test_netboot_does_not_depend_on_the_distribution_of_a_cluster(plan: Plan) -> None:
    below = plan.below(["netboot:amd64"])
    assert not [task for task in below if task.endswith(("/head", "/compute"))]
    assert "netboot:amd64" in plan.below(["image:debian12"]) and "netboot:amd64" in plan.below(["image:debian13"])


def test_a_system_for_i386_is_built_and_installed_by_the_tools_of_its_64_bit_machines(plan: Plan) -> None:
    below = set(plan.below(["image:fc4-i386", "disk:fc4-i386/head"]))
    assert {"toolroot:amd64", "bootloader:amd64", "netboot:amd64", "root:fc4-i386"} <= below
    assert not {task for task in plan.artifacts if task.endswith(":i386")} and "root:fc4" not in below
    assert plan.made["fc4-i386"].netboot == "netboot:amd64"
    assert plan.steps["definition:fc4-i386/head"].params["architecture"] == "amd64"
    assert plan.steps["lock:fc4-i386"].params["architecture"] == "i386"
    assert not [parent for parent in plan.steps["root:fc4-i386"].parents if parent.role == "machine"]


def test_an_old_system_boots_the_kernel_of_another_distribution(recipes: Path) -> None:
    manifest = recipes / "clusters/fc4-xen.toml"
    for boot in ("pygrub", "kernel"):
        manifest.write_text(f'extends = "fc4"\nkernel_from = "debian12"\nhost = "debian12"\n[xen]\nboot = "{boot}"\n')
        found = planning.make(load(recipes))
        below = set(found.below(["image:fc4-xen", "disk:fc4-xen/head"]))
        assert {"root:fc4", "modernkernel:fc4-xen", "root:debian12"} <= below and "initrd:fc4" not in below
        assert found.made["fc4-xen"].kernel == ("modernkernel:fc4-xen" if boot == "kernel" else "")
    for name, wanted in (("fc4", ("pc", True, False)), ("fc4-xen", ("virtio", False, True))):
        for one in found.clusters[name].machines:
            assert (one.devices, one.by_label, one.vsyscall) == wanted
            assert one.filesystems[0].type == "ext3"
    assert "initrd:fc4" in found.below(["image:fc4"])


def test_only_steps_that_fetch_reach_the_network(plan: Plan) -> None:
    assert {step.kind for step in plan.steps.values() if step.network} == {"index", "fetch"}
    # else a mirror that is a folder would not be seen
    assert all(bool(step.mirrors) == step.network for step in plan.steps.values())


def test_a_file_for_the_head_node_leaves_the_compute_side_alone(plan: Plan, recipes: Path) -> None:
    (recipes / "opkgs/ganglia/files/server/etc").mkdir(parents=True, exist_ok=True)
    (recipes / "opkgs/ganglia/files/server/etc/motd").write_text("hello\n")
    assert changed(plan, planning.make(load(recipes))) == {"opkgs:debian12/head", "opkgs:debian12-xen/head"}


def test_a_package_of_an_opkg_is_locked_on_its_side_only(plan: Plan, recipes: Path) -> None:
    config = recipes / "opkgs/ganglia/config.xml"
    config.write_text(config.read_text().replace("</clientDeps>", "<requires><pkg>tree</pkg></requires></clientDeps>"))
    after = changed(plan, planning.make(load(recipes)))
    assert "lock:debian12/compute" in after
    assert "lock:debian12" not in after and "root:debian12" not in after and "lock:debian12/head" not in after


def test_a_script_for_the_image_makes_it_wait_for_the_head_node(plan: Plan, recipes: Path) -> None:
    script = recipes / "opkgs/ganglia/scripts/post_rpm_nochroot"
    script.parent.mkdir(exist_ok=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    after = planning.make(load(recipes))
    nodes = after.steps["opkgs:debian12/compute"]
    assert nodes.params["imaged"] == ["ganglia"]
    assert [parent.task for parent in nodes.parents if parent.role == "head"] == [
        parent.task for parent in after.steps["headnode:debian12"].parents
    ]
    assert not any(parent.role == "head" for parent in plan.steps["opkgs:debian12/compute"].parents)


def test_secrets_are_told_to_what_must_not_hold_them(plan: Plan, recipes: Path) -> None:
    def told(task: str, found: Plan) -> object:
        return found.artifacts[task].params.get("secrets")

    layers = [f"{kind}:debian12/{role}" for kind in ("packages", "opkgs") for role in ("head", "compute")]
    assert {str(told(task, plan)) for task in layers} == {"['/etc/munge/munge.key']"}
    (recipes / "opkgs/ganglia/secrets").write_text("/etc/ganglia/key 32\n")
    after = planning.make(load(recipes))
    assert {str(told(task, after)) for task in layers} == {"['/etc/munge/munge.key', '/etc/ganglia/key']"}
    assert "etc/ganglia/key" in str(after.verdict("debian12").params["known"])
    (recipes / "opkgs/ganglia/secrets").write_text("/etc/munge/munge.key 32\n")
    assert 'OPKGs "munge" and "ganglia" both declare the secret /etc/munge/munge.key' in str(
        planning.make(load(recipes)).broken["clusters/debian12"]
    )


def test_one_more_node_makes_what_is_its_own_and_changes_nothing_else(plan: Plan, recipes: Path) -> None:
    cluster = recipes / "clusters/debian12.toml"
    cluster.write_text(cluster.read_text().replace("count = 2", "count = 3"))
    assert changed(plan, planning.make(load(recipes))) == {
        f"{kind}:{name}/node3"
        for kind in ("disk", "definition", "xenconfig")
        for name in ("debian12", "debian12-xen", "debian13")
    } | {f"verify:{name}" for name in ("debian12", "debian12-xen", "debian13")}


@pytest.mark.parametrize(
    ("words", "machine"),
    [
        ("[machines.node2]\nmemory = '600M'", "node2"),
        ("[machines.node2]\ncpus = 2", "node2"),
        ("[machines.head]\nmemory = '1G'", "head"),
        ("[xen.machines.node2]\npci = ['03:00.0']", "node2"),
        ("[xen.machines.node2]\ndevice = '/dev/vg0/node2'", "node2"),
    ],
)
def test_hardware_of_a_machine_changes_its_definition_alone(recipes: Path, words: str, machine: str) -> None:
    mine = recipes / "clusters/mine.toml"
    mine.write_text('extends = "debian12-xen"\n')
    before = planning.make(load(recipes))
    mine.write_text(f'extends = "debian12-xen"\n{words}\n')
    assert changed(before, planning.make(load(recipes))) == {
        "verify:mine",
        *(f"{kind}:mine/{machine}" for kind in ("definition", "xenconfig")),
    }


def test_other_addresses_want_another_verdict_though_no_artifact_is_another(recipes: Path) -> None:
    mine = recipes / "clusters/mine.toml"
    mine.write_text('extends = "debian12"\n')
    before = planning.make(load(recipes))
    mine.write_text('extends = "debian12"\n[networks.private]\nfirst_node = "10.77.1.9"\n')
    assert changed(before, planning.make(load(recipes))) == {"verify:mine"}


def test_the_host_of_a_cluster_changes_its_definitions_alone(recipes: Path) -> None:
    mine = recipes / "clusters/mine.toml"
    mine.write_text('extends = "debian12"\n')
    before = planning.make(load(recipes))
    mine.write_text('extends = "debian12"\nhost = "debian12"\n')
    assert changed(before, planning.make(load(recipes))) == {
        "verify:mine",
        *(f"definition:mine/{name}" for name in ("head", "node1", "node2")),
    }


def test_clusters_of_the_same_software_share_their_image(recipes: Path) -> None:
    (recipes / "clusters/mine.toml").write_text('extends = "debian12"\n[compute]\nprefix = "other"\ncount = 7\n')
    found = planning.make(load(recipes)).steps
    mine, theirs = found["image:mine"], found["image:debian12"]
    assert (mine.maker, mine.params) == (theirs.maker, theirs.params)
    # but for what scripts ask for while roots are built
    assert found["opkgs:mine/compute"].params["names"] != found["opkgs:debian12/compute"].params["names"]


def test_an_opkg_that_asks_for_the_nodes_while_a_root_is_built_depends_on_them(recipes: Path) -> None:
    script = recipes / "opkgs/ganglia/scripts/client-post-install"
    script.write_text(script.read_text() + "cat /etc/oscar/nodes\n")
    before = planning.make(load(recipes))
    cluster = recipes / "clusters/debian12.toml"
    cluster.write_text(cluster.read_text().replace("count = 2", "count = 3"))
    after = changed(before, planning.make(load(recipes)))
    assert "opkgs:debian12/compute" in after and "opkgs:debian12/head" not in after


def spoil(recipes: Path, path: str, text: str) -> None:
    (recipes / path).parent.mkdir(parents=True, exist_ok=True)
    (recipes / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "text", "broken"),
    [
        ("clusters/mine.toml", "x = 1", ["clusters/mine"]),
        ("distros/mine.toml", "x = 1", ["distros/mine"]),
        ("hosts/mine.toml", 'kind = "xen"', ["hosts/mine"]),
        ("netboot/mips.toml", "", ["netboot/mips"]),
        ("opkgs/mine/config.xml", "<oscar>", ["opkgs/mine"]),
        ("opkgs/mine/scripts/server-post-install", "echo", ["opkgs/mine"]),
    ],
)
def test_what_is_broken_and_not_needed_changes_nothing_else(
    plan: Plan, recipes: Path, path: str, text: str, broken: list[str]
) -> None:
    spoil(recipes, path, text)
    found = planning.make(load(recipes))
    assert list(found.broken) == broken
    assert (found.steps, found.clusters, found.hosts) == (plan.steps, plan.clusters, plan.hosts)


EVERY_CLUSTER = [
    f"clusters/{name}"
    for name in ("debian12", "debian12-xen", "debian13", "fc4", "fc4-i386", "fc4-xen", "oscar", "rocky9")
]


@pytest.mark.parametrize(
    ("path", "text", "broken"),
    [
        (
            "distros/debian13.toml",
            "x = 1",
            [*EVERY_CLUSTER, "distros/debian13", "netboot/amd64"],
        ),  # the installer is made of it
        ("hosts/debian12.toml", "x = 1", ["clusters/debian12-xen", "clusters/fc4-xen", "hosts/debian12"]),
        ("opkgs/ganglia/config.xml", "<oscar>", ["clusters/debian12", "clusters/debian12-xen", "opkgs/ganglia"]),
        (
            "opkgs/core/config.xml",
            "<oscar><class>core</class>",
            [*EVERY_CLUSTER, "opkgs/core"],
        ),
    ],
)
def test_what_is_broken_takes_what_needs_it_along_by_the_same_mistakes(
    recipes: Path, path: str, text: str, broken: list[str]
) -> None:
    spoil(recipes, path, text)
    found = planning.make(load(recipes))
    assert sorted(found.broken) == broken
    assert len(set(found.broken.values())) == 1
    assert path in found.broken[broken[0]]
    assert len(found.told()) == 1


def test_a_testbed_needs_a_distribution_that_can_be_one(recipes: Path) -> None:
    host = recipes / "hosts/debian12.toml"
    host.write_text(host.read_text().replace('"debian12"', '"debian13"'))
    assert 'distro: "debian13" has no packages.dom0' in planning.make(load(recipes)).broken["hosts/debian12"]


def test_no_two_tasks_have_the_same_link(recipes: Path) -> None:
    for name in ("amd64", "image", "lock", "packages", "head", "dom0-debian12", "netboot-amd64"):
        (recipes / f"clusters/{name}.toml").write_text('extends = "debian12"\n')
    store, made = Store(recipes.parent), planning.make(load(recipes)).artifacts
    assert len({store.link_path(task) for task in made}) == len(made)


@pytest.mark.parametrize("name", ["image", "definition", "kernel", "xenconfig", "dom0", "disk"])
def test_a_machine_may_be_called_like_an_artifact(plan: Plan, recipes: Path, name: str) -> None:
    (recipes / "clusters/mine.toml").write_text(f'extends = "debian12-xen"\nhead.name = "{name}"\n')
    found = planning.make(load(recipes))
    usual = {
        task.replace("debian12-xen", "mine").replace("/head", f"/{name}")
        for task in plan.made["debian12-xen"].parts().values()
    }
    parts = found.made["mine"].parts()
    assert set(parts.values()) == usual
    assert len(parts) == len(plan.made["debian12-xen"].parts())
    assert (parts[f"disk/{name}"], parts["image"]) == (f"disk:mine/{name}", "image:mine")


def test_a_package_under_test_gets_a_layer_of_its_own(plan: Plan, recipes: Path) -> None:
    debpackages.make(recipes / "clusters", "mine")
    (recipes / "clusters/mine.toml").write_text('extends = "debian12"\n[packages]\nhead = ["mine_1.0_all.deb"]\n')
    after = planning.make(load(recipes))
    layers = [parent.task for parent in after.steps["opkgs:mine/head"].parents]
    assert layers == ["root:debian12", "initrd:debian12", "packages:mine/head", "localpackages:mine/head"]
    assert "localpackages:mine/compute" not in after.steps


def test_warnings_are_told_by_the_remembered_plan_too(recipes: Path, tmp_path: Path) -> None:
    config = recipes / "opkgs/ganglia/config.xml"
    config.write_text(
        config.read_text().replace(
            "<clientDeps>", "<clientDeps>\n<requires><filters><arch>amd46</arch></filters><pkg>tree</pkg></requires>"
        )
    )
    line = config.read_text().splitlines().index("  <clientDeps>") + 2
    first, again = (load_plan(recipes, tmp_path, tmp_path) for _ in range(2))
    assert again.warnings == first.warnings
    assert len(first.warnings) == 1
    assert first.warnings[0].startswith(f'{config}:{line}: filters.arch: "amd46" is no architecture')


# --- the remembered plan


class Remembered:
    """A recipes folder with a cluster `mine` whose head node has a package under test, and the plans made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipes = Path(shutil.copytree(RECIPES, folder / "recipes", symlinks=True))
        self.package = debpackages.make(folder / "build", "tool")
        self.cache = folder / "cache" / "plan.pickle"
        self.manifest = self.recipes / "clusters/mine.toml"
        self.manifest.write_text('extends = "debian12"\n[packages]\nhead = ["../../build/tool_1.0_all.deb"]\n')

    def plan(self) -> Plan:
        """The plan as a run gets it, once the clock that stamps files has moved on."""
        now = time.time_ns()
        while time.clock_gettime_ns(_COARSE_CLOCK) < now + 20_000_000:
            time.sleep(0.001)
        return load_plan(self.recipes, self.folder, self.folder)

    def is_new(self) -> bool:
        """Whether the next run plans anew."""
        before = self.cache.stat().st_ino
        self.plan()
        return self.cache.stat().st_ino != before

    def opkgs(self) -> Mapping[str, str]:
        return dict(self.plan().steps["opkgs:mine/head"].files)

    def under_test(self) -> str:
        return self.plan().steps["localpackages:mine/head"].files[0][1]


#: CLOCK_REALTIME_COARSE of linux/time.h.
_COARSE_CLOCK = 5


@pytest.fixture
def remembered(tmp_path: Path) -> Remembered:
    return Remembered(tmp_path)


def test_what_goes_on_beside_planning_is_begun_only_where_there_is_something_to_plan(
    remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned, "_beside", [])
    begun: list[int] = []
    planned.beside(lambda: begun.append(1))
    for _ in range(2):
        remembered.plan()
    assert begun == [1]


def test_a_plan_is_remembered_while_nothing_changes(remembered: Remembered) -> None:
    first = remembered.plan()
    assert not remembered.is_new()
    assert remembered.plan() == first


def test_a_damaged_memory_is_no_matter(remembered: Remembered) -> None:
    first = remembered.plan()
    for damage in (b"", b"damaged", pickle.dumps(("nonsense", first)), pickle.dumps([])):
        remembered.cache.write_bytes(damage)
        assert remembered.plan() == first


def test_a_memory_that_others_could_have_written_is_not_run(remembered: Remembered, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "evil",))

    remembered.plan()
    remembered.cache.write_bytes(pickle.dumps(Evil()))
    remembered.cache.chmod(0o666)
    remembered.plan()
    assert not (tmp_path / "evil").exists()


def test_a_folder_that_cannot_be_written_only_costs_time(remembered: Remembered) -> None:
    remembered.cache = Path("/proc/nowhere/plan.pickle")
    assert remembered.plan() == remembered.plan()


def test_a_link_to_a_package_under_test_that_leads_to_another_one_is_seen(remembered: Remembered) -> None:
    other = debpackages.make(remembered.package.parent, "tool", version="1.1")
    link = remembered.package.with_name("tool.deb")
    link.symlink_to(remembered.package.name)
    remembered.manifest.write_text(remembered.manifest.read_text().replace("tool_1.0_all.deb", "tool.deb"))
    first = remembered.under_test()
    link.unlink()
    link.symlink_to(other.name)
    assert remembered.under_test() != first


def test_a_folder_of_packages_that_becomes_another_one_is_seen(remembered: Remembered) -> None:
    build = remembered.package.parent
    newer = debpackages.make(build.with_name("newer"), "tool", files={"/etc/tool": "newer"})
    first = remembered.under_test()
    build.rename(build.with_name("older"))
    build.symlink_to(newer.parent)
    assert remembered.under_test() != first


@pytest.mark.parametrize("place", ["package", "script", "manifest"])
def test_other_content_of_the_same_size_and_time_is_seen(remembered: Remembered, place: str) -> None:
    file = {
        "package": remembered.package,
        "script": remembered.recipes / "opkgs/ntpconfig/scripts/server-post-install",
        "manifest": remembered.manifest,
    }[place]
    data = file.read_bytes()
    file.write_bytes(data + b"# one\n")
    remembered.plan()
    status = file.stat()
    file.write_bytes(data + b"# two\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert remembered.is_new()


def test_an_opkg_that_lives_elsewhere_is_watched_there(remembered: Remembered, tmp_path: Path) -> None:
    home = tmp_path / "of-somebody-else"
    (remembered.recipes / "opkgs/ntpconfig").rename(home)
    (remembered.recipes / "opkgs/ntpconfig").symlink_to(home)
    remembered.manifest.write_text('extends = "debian12"\nopkgs = ["ntpconfig"]\n')
    script = home / "scripts/server-post-install"
    first = remembered.opkgs()
    script.write_text(script.read_text() + "# more\n")
    assert remembered.opkgs() != first


def test_a_manifest_that_is_a_link_is_watched_behind_it(remembered: Remembered, tmp_path: Path) -> None:
    real = tmp_path / "mine.toml"
    remembered.manifest.rename(real)
    remembered.manifest.symlink_to(real)
    remembered.plan()
    real.write_text('extends = "debian12"\n[compute]\ncount = 7\n')
    assert len(remembered.plan().clusters["mine"].nodes) == 7


@pytest.mark.parametrize("name", ["more", "compiled.pyc", ".hidden", "with space"])
def test_files_that_come_and_go_are_seen(remembered: Remembered, name: str) -> None:
    folder = remembered.recipes / "opkgs/ntpconfig/files/server/etc"
    folder.mkdir(parents=True)
    remembered.plan()
    (folder / name).touch()
    assert remembered.is_new()
    (folder / name).unlink()
    assert remembered.is_new()


def test_links_of_a_root_to_be_are_not_followed(remembered: Remembered) -> None:
    folder = remembered.recipes / "opkgs/ntpconfig/files/server/srv"
    folder.mkdir(parents=True)
    (folder / "all").symlink_to("/usr")
    (folder / "up").symlink_to("..")
    remembered.plan()
    assert not [path for path, _ in planned._signature(remembered.recipes, ()) if "/srv/all/" in path]


def test_a_side_s_files_that_are_a_link_are_watched_behind_it(remembered: Remembered, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (remembered.recipes / "shared").symlink_to(shared)
    (remembered.recipes / "opkgs/ntpconfig/files").mkdir()
    (remembered.recipes / "opkgs/ntpconfig/files/common").symlink_to("../../../shared")
    first = remembered.opkgs()
    (shared / "conf").write_text("x")
    assert remembered.opkgs().keys() - first.keys() == {"opkgs/ntpconfig/files/common/conf"}


def test_links_in_a_circle_have_an_end(remembered: Remembered) -> None:
    (remembered.recipes / "opkgs/more").symlink_to("..")
    signed = planned._signature(remembered.recipes, ())
    assert len(signed) < 2000


def test_a_keyring_that_changes_is_seen_wherever_it_lies(remembered: Remembered, tmp_path: Path) -> None:
    distro = remembered.recipes / "distros/debian12.toml"
    distro.write_text(re.sub("(?m)^keyring = .*", f'keyring = "{tmp_path / "keys.gpg"}"', distro.read_text()))
    seen = [remembered.plan().steps["index:debian12"].files]
    for keys in ("one", "two"):
        (tmp_path / "keys.gpg").write_text(keys)
        seen.append(remembered.plan().steps["index:debian12"].files)
    assert seen[0] == ()
    assert len(set(seen)) == 3


# --- memberships


def test_a_membership_has_a_stack_and_an_image_of_its_own(recipes: Path, plan: Plan) -> None:
    manifest = recipes / "clusters/mine.toml"
    manifest.write_text(
        'extends = "debian12"\n[memberships.login]\npackages = ["vim"]\nfilesystems = [{mount = "/", size = "3G"}]\n'
    )
    found = planning.make(load(recipes))
    image = found.steps["image:mine"]
    assert list(image.params["images"]) == ["compute", "login"]
    assert image.params["images"]["login"]["disk_mib"] == 3073
    parents = {parent.role: parent.task for parent in image.parents}
    assert (parents["image/compute"], parents["image/login"]) == ("opkgs:mine/compute", "opkgs:mine/login")
    assert "vim" in str(found.steps["lock:mine/login"]) and "vim" not in str(found.steps["lock:mine/compute"])
    assert found.steps["disk:mine/login1"].params == {"size_mib": 3073}
    assert set(found.made["mine"].stacks) == {"head", "compute", "login"}
    manifest.write_text(manifest.read_text().replace('packages = ["vim"]\n', ""))
    assert changed(found, planning.make(load(recipes))) == {"lock:mine/login"}


# --- clusters that share a host


HERE = 'kind = "xen"\nconnection = "xen:///system"\n'


def shared(folder: Path, *names: str) -> Plan:
    """The plan of a checkout in `folder` with these clusters on one given host."""
    recipes = folder / "recipes"
    if not recipes.exists():
        shutil.copytree(RECIPES, recipes, symlinks=True)
        (recipes / "hosts/here.toml").write_text(HERE)
    for manifest in recipes.glob("clusters/on-*.toml"):
        manifest.unlink()
    for name in names:
        (recipes / f"clusters/{name}.toml").write_text('extends = "debian12"\nhost = "here"\n')
    return load_plan(recipes, folder.parent, folder)


def macs(plan: Plan, name: str) -> set[str]:
    return {card.mac for machine in plan.clusters[name].machines for card in machine.interfaces}


def subnets(plan: Plan, name: str) -> list[str]:
    return [network.cidr for network in plan.clusters[name].networks]


def test_clusters_on_one_host_share_no_mac_and_no_subnet_and_keep_theirs(tmp_path: Path, plan: Plan) -> None:
    alone = shared(tmp_path / "a", "on-b")
    assert alone.clusters["on-b"].networks == plan.clusters["debian12"].networks
    assert macs(alone, "on-b") == macs(plan, "debian12")
    more = shared(tmp_path / "a", "on-a", "on-b")
    assert more.clusters["on-b"] == alone.clusters["on-b"]
    assert subnets(more, "on-a") == ["10.77.2.0/24", "10.77.3.0/24"]
    assert not macs(more, "on-a") & macs(more, "on-b")
    another_checkout = shared(tmp_path / "b", "on-a")
    assert subnets(another_checkout, "on-a") == ["10.77.4.0/24", "10.77.5.0/24"]
    assert macs(shared(tmp_path / "a", "on-a", "on-b"), "on-a") == macs(more, "on-a")
    assert subnets(more, "debian12-xen") == subnets(plan, "debian12"), "the testbed is another host"


def test_the_lot_of_a_cluster_that_may_run_is_not_given_away(tmp_path: Path) -> None:
    shared(tmp_path / "a", "on-b")
    mark = tmp_path / "a/run/on-b/container"
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert shared(tmp_path / "a", "on-c").lots["on-c"] == 1
    mark.unlink()
    assert shared(tmp_path / "a", "on-c", "on-d").lots["on-d"] == 0
    shutil.rmtree(tmp_path / "a")
    assert shared(tmp_path / "b", "on-e").lots["on-e"] == 0


def test_what_a_manifest_says_of_a_network_counts_more_than_the_lot(tmp_path: Path) -> None:
    shared(tmp_path / "a", "on-a")
    manifest = tmp_path / "a/recipes/clusters/mine.toml"
    for said, found in {
        'private.cidr = "192.168.5.0/24"': ["10.77.2.0/24", "192.168.5.0/24"],
        'public.head = "10.77.0.9"': ["10.77.0.0/24", "10.77.3.0/24"],
        'private.cidr = "10.77.2.0/23"': ["10.77.0.0/24", "10.77.2.0/23"],
        'private.cidr = "10.77.2.0/24"': ["10.77.3.0/24", "10.77.2.0/24"],
        'public.cidr = "10.77.3.0/24"': ["10.77.3.0/24", "10.77.2.0/24"],
    }.items():
        manifest.write_text(f'extends = "debian12"\nhost = "here"\n[networks]\n{said}\n')
        assert subnets(load_plan(tmp_path / "a/recipes", tmp_path, tmp_path / "a"), "mine") == found


@pytest.mark.parametrize("content", [b"garbage", b"[" * 200000, b'{"schema": 1, "lots": {"x": {"a": -1}}}', None])
def test_a_ledger_that_is_damaged_stops_those_alone_that_share_a_host(tmp_path: Path, content: bytes | None) -> None:
    shared(tmp_path / "a", "on-a")
    ledger = tmp_path / "locks/allocation.json"
    ledger.unlink()
    if content is None:
        ledger.mkdir()
    else:
        ledger.write_bytes(content)
    found = shared(tmp_path / "a", "on-a", "on-b")
    assert {"debian12", "debian13", "rocky9"} <= set(found.clusters)
    assert {"clusters/on-a", "clusters/on-b"} <= set(found.broken)
    assert str(ledger) in found.broken["clusters/on-a"] and "put back what it was" in found.broken["clusters/on-a"]


def test_machines_on_one_host_have_names_of_their_own(tmp_path: Path) -> None:
    shared(tmp_path / "a")
    for name, prefix in (("a", "b-node"), ("a-b", "node")):
        manifest = tmp_path / f"a/recipes/clusters/{name}.toml"
        manifest.write_text(f'extends = "debian12"\nhost = "here"\n[compute]\nprefix = "{prefix}"\n')
    broken = load_plan(tmp_path / "a/recipes", tmp_path, tmp_path / "a").broken["clusters/a-b"]
    assert broken.endswith(
        "recipes/clusters/a-b.toml:1: node1 would be called a-b-node1 on here, as b-node1 of a is; expected other "
        "names in one of them"
    )


def test_machines_on_one_host_have_macs_of_their_own(tmp_path: Path) -> None:
    shared(tmp_path / "a")
    for name in ("one", "two"):
        manifest = tmp_path / f"a/recipes/clusters/{name}.toml"
        manifest.write_text('extends = "debian12"\nhost = "here"\nmachines.node2.mac = "52:54:00:00:00:01"\n')
    broken = load_plan(tmp_path / "a/recipes", tmp_path, tmp_path / "a").broken["clusters/two"]
    assert broken.endswith(
        "recipes/clusters/two.toml:1: node2 would have the MAC 52:54:00:00:00:01 on here, as node2 of one has; "
        "expected another one in one of them"
    )


def test_old_programs_run_in_a_machine_wherever_a_root_is_made(recipes: Path) -> None:
    path = recipes / "distros/rocky9.toml"
    path.write_text(path.read_text().replace('family = "rpm"', 'family = "rpm"\nvsyscall = true'))
    found = planning.make(load(recipes))
    for name in ("root:rocky9", "packages:rocky9/head", "opkgs:rocky9/head", "opkgs:rocky9/compute"):
        step = found.steps[name]
        assert [parent.task for parent in step.parents if parent.role == "machine"] == ["netboot:amd64"]
        assert "qemu-system-x86_64" in step.tools
    assert not [parent for parent in found.steps["lock:rocky9"].parents if parent.role == "machine"]
