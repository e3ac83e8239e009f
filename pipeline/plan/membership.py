"""The root file system of a membership's machines: a stack of layers, and the locks of what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import kept
from pipeline.description import Cluster, Role
from pipeline.guests import flavours
from pipeline.manifests.distro import Distro
from pipeline.manifests.recipes import Recipes
from pipeline.opkgs import model, names, phases
from pipeline.packages.families import FAMILIES
from pipeline.plan.distro import LAYER_TOOLS, asked, assembled, fetch, lock, machine, machine_tools
from pipeline.step import Parent, Stack, Step

#: The layers of a stack below what changes often: the base system, its ramdisk, packages of the distribution.
OF_PACKAGES = 3


def stack(
    recipes: Recipes, distro: Distro, cluster: Cluster, membership: str, kernel: str, head: tuple[Parent, ...]
) -> tuple[list[Step], tuple[Parent, ...], Stack]:
    """The root file system of a membership as a stack of layers: what changes most lies on top.  `kernel` is the layer
    that it boots by, `head` those of the head node, on which OPKGs may have a script that changes the image."""
    role: Role = "head" if membership == "head" else "compute"
    side = phases.side_of(membership)
    name, base, family = f"{cluster.name}/{membership}", distro.name, FAMILIES[distro.family]
    what = "the head node" if role == "head" else f"the {membership} nodes"
    opkgs = [recipes.opkg(opkg) for opkg in cluster.opkgs]
    manifest = recipes.cluster(cluster.name)
    wanted = asked(f"distribution {base}", distro.packages.head if role == "head" else distro.packages.compute)
    if membership in manifest.memberships:
        wanted += asked(f"membership {membership}", manifest.memberships[membership].packages)
    for one in opkgs:
        wanted += asked(f"OPKG {one.name}", model.packages(one, side, distro))
    secrets = {"secrets": [secret.path for secret in cluster.secrets]} if cluster.secrets else {}
    layers = [Parent("layer", f"root:{base}"), Parent("layer", kernel)]
    locked = lock(name, f"the packages of {what} of {cluster.name}", distro, wanted, f"lock:{base}")
    layer = assembled(
        "packages",
        name,
        f"layer: all locked distribution packages of {what}",
        family.layer,
        name,
        on=[*layers, *machine(distro)],
        params={**distro.installed(), **secrets},
        tools=machine_tools(distro),
    )
    found = [locked, fetch(recipes, name, f"packages of {what} of {cluster.name}", distro), layer]
    layers.append(Parent("layer", layer.task))
    under_tests = {"head": manifest.packages.head, "compute": manifest.packages.compute}
    given = under_tests.get(membership, ())
    under_test = ""
    local = [str(Path(path).resolve()) for path in given]  # a link stands for what it points at
    if local:
        given_layer = Step(
            "localpackages",
            name,
            f"layer: the packages under test on {what}",
            family.under_test.name,
            params={"packages": [Path(path).name for path in local], **distro.installed(), **secrets},
            files=tuple((path, str(kept.of(recipes.folder, path))) for path in local),
            parents=(*layers, *machine(distro)),
            tools=(*family.under_test.tools, *machine_tools(distro)),
        )
        found.append(given_layer)
        layers.append(Parent("layer", given_layer.task))
        under_test = given_layer.task
    files: dict[str, str] = {}
    for one in opkgs:
        files.update(recipes.content(one.name, side, flavours.of(distro.guest).init))
    told = names.while_built(cluster, names.most(recipes.asks(one.name, side) for one in opkgs))
    params: dict[str, Any] = {"membership": membership, "opkgs": list(cluster.opkgs), **secrets}
    if told:
        params["names"] = told
    imaged = [one.name for one in opkgs if any(one.script(phase.name) for phase in phases.that_run("imaged", "server"))]
    on_head: tuple[Parent, ...] = ()
    if role == "compute" and imaged:
        params["imaged"] = imaged
        on_head = tuple(Parent("head", layer.task, layer.part) for layer in head)
    top = Step(
        "opkgs",
        name,
        f"layer: files and scripts of the OPKGs on {what}",
        "pipeline.opkgs.install:build",
        params=params,
        files=tuple(sorted(files.items())),
        parents=(*layers, *on_head, *machine(distro)),
        tools=(*LAYER_TOOLS, *machine_tools(distro)),
    )
    return (
        [*found, top],
        (*layers, Parent("layer", top.task)),
        Stack((f"lock:{base}", locked.task), under_test, top.task),
    )
