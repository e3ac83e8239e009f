"""What a cluster is made of: a root file system for each role, and of these its disks, its image, its definitions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline import kept, naming
from pipeline.description import ROLES, Cluster, Host, Role
from pipeline.guests import flavours
from pipeline.manifests.distro import Distro
from pipeline.manifests.recipes import Recipes
from pipeline.opkgs import folders, model, phases
from pipeline.packages.families import FAMILIES
from pipeline.plan.distro import COMPRESSING_TOOLS, LAYER_TOOLS, asked, assembled, fetch, lock
from pipeline.step import Made, Parent, Record, Stack, Step

#: OPKG dependencies and files are for servers and clients; machines are head and compute nodes.
_OPKG_SIDE: dict[Role, Literal["server", "client"]] = {"head": "server", "compute": "client"}


def steps(recipes: Recipes, name: str, cluster: Cluster) -> tuple[list[Step], Made]:
    """All that is built for a cluster, and what its machines are made of."""
    distro = recipes.distro(cluster.distro)
    host = recipes.describe_host(cluster.host)
    tools = (Parent("toolroot", f"toolroot:{distro.architecture}"),
             Parent("bootloader", f"bootloader:{distro.architecture}"))
    guest = flavours.of(cluster.guest)
    networks = {machine.name: dict(guest.networks(cluster, machine)) for machine in cluster.machines}
    found: list[Step] = []
    layers: dict[Role, tuple[Parent, ...]] = {}
    stacks: dict[Role, Stack] = {}
    for role in ROLES:
        made, layers[role], stacks[role] = _stack(recipes, distro, cluster, role, layers.get("head", ()))
        found += made
    image = Step("image", name, f"SIS image of the compute nodes of {name}", "pipeline.builders.image:build",
                 params={"cluster": cluster.to_json(),
                         "networks": {node.name: networks[node.name] for node in cluster.nodes}},
                 parents=(*layers["compute"], *tools, Parent("netboot", naming.netboot(distro.architecture))),
                 tools=LAYER_TOOLS)
    definitions = Step("vmconfig", name, f"domain definitions of {name}", "pipeline.builders.vmconfig:build",
                       params={"cluster": cluster.to_json(), "host": dataclasses.asdict(host)})
    xenconfig = Step("xenconfig", name, f"configurations of the machines of {name} for xl, accepted by libxl",
                     "pipeline.builders.xenconfig:build", params={"cluster": cluster.to_json()},
                     parents=_xltools(recipes, distro, host), ships=("builders/libxl_shim.c",), tools=LAYER_TOOLS)
    disks = {
        cluster.head.name: Step(
            "disk", f"{name}/{cluster.head.name}", f"disk of the head node of {name}", "pipeline.builders.disk:head",
            params={"cluster": cluster.to_json(), "networks": networks[cluster.head.name]},
            parents=(*layers["head"], *tools), tools=LAYER_TOOLS),
        **{node.name: Step(
            "disk", f"{name}/{node.name}", f"empty disk of compute node {node.name} of {name}",
            "pipeline.builders.disk:empty", params={"size_mib": node.disk_mib}) for node in cluster.nodes},
    }
    found += [
        Step("headnode", name, f"the head node of {name} as a tarball (.tar.zst)", "pipeline.builders.headnode:build",
             parents=layers["head"], tools=COMPRESSING_TOOLS),
        image, definitions, xenconfig, *disks.values(),
    ]
    return found, Made(
        image.task, definitions.task, {machine: step.task for machine, step in disks.items()}, stacks,
        naming.netboot(distro.architecture), distro.family, **_on_xen(cluster, host, xenconfig))


def _on_xen(cluster: Cluster, host: Host, xenconfig: Step) -> Mapping[str, str]:
    """What a cluster on Xen is made of besides: checked configurations, the hypervisor, a kernel from outside."""
    if host.hypervisor != "xen":
        return {}
    outside = any(machine.boot == "kernel" for machine in cluster.machines)
    return {"xenconfig": xenconfig.task, "dom0": naming.dom0(host.distro) if host.connection == "testbed" else "",
            "kernel": f"kernel:{cluster.distro}" if outside else ""}


def verdict(cluster: Cluster, made: Made) -> Record:
    """Its key says for what it was given, by which checks, and what these ask and let pass."""
    guest, family = flavours.of(cluster.guest), FAMILIES[made.family]
    return Record("verify", cluster.name, f"verdict on the running cluster {cluster.name}",
                  "pipeline.checks.verify:verify",
                  params={"known": list(map(dataclasses.asdict, guest.known_on(cluster))), "services": guest.services,
                          "listing": family.listing, "database": family.database},
                  parents=tuple(Parent(role, task) for role, task in made.parts().items()), ships=("checks",))


def _xltools(recipes: Recipes, distro: Distro, host: Host) -> tuple[Parent, ...]:
    """The xl that a cluster's configurations are checked with: its own distribution's, its host's, or any."""
    candidates = [distro, *([recipes.distro(host.distro)] if host.distro else []), *recipes.distros()]
    found = next((one.name for one in candidates if one.packages.xl), "")
    return (Parent("toolroot", f"xltools:{found}"),) if found else ()


def _stack(recipes: Recipes, distro: Distro, cluster: Cluster,
           role: Role, head: tuple[Parent, ...]) -> tuple[list[Step], tuple[Parent, ...], Stack]:
    """The root file system of a role as a stack of layers: what changes most lies on top.  `head` is the head node's,
    on which OPKGs may have a script that changes the image."""
    name, base, family = f"{cluster.name}/{role}", distro.name, FAMILIES[distro.family]
    what = "the head node" if role == "head" else "the compute nodes"
    opkgs = [recipes.opkg(opkg) for opkg in cluster.opkgs]
    wanted = asked(f"distribution {base}", distro.packages.head if role == "head" else distro.packages.compute)
    for one in opkgs:
        wanted += asked(f"OPKG {one.name}", model.packages(one, _OPKG_SIDE[role], distro))
    secrets = {"secrets": [secret.path for secret in cluster.secrets]} if cluster.secrets else {}
    stack = [Parent("layer", f"root:{base}"), Parent("layer", f"initrd:{base}")]
    locked = lock(name, f"the packages of {what} of {cluster.name}", distro, wanted, f"lock:{base}")
    layer = assembled("packages", name, f"layer: all locked distribution packages of {what}", family.layer, name,
                      on=stack, params=secrets)
    found = [locked, fetch(name, f"packages of {what} of {cluster.name}", distro), layer]
    stack.append(Parent("layer", layer.task))
    packages = recipes.cluster(cluster.name).packages
    given = packages.head if role == "head" else packages.compute
    under_test = ""
    local = [str(Path(path).resolve()) for path in given]  # a link stands for what it points at
    if local:
        given_layer = Step(
            "localpackages", name, f"layer: the packages under test on {what}", family.under_test.name,
            params={"packages": [Path(path).name for path in local], **secrets},
            files=tuple((path, str(kept.of(recipes.folder, path))) for path in local),
            parents=tuple(stack), tools=family.under_test.tools)
        found.append(given_layer)
        stack.append(Parent("layer", given_layer.task))
        under_test = given_layer.task
    files: dict[str, str] = {}
    for one in opkgs:
        files.update(folders.content(one, _OPKG_SIDE[role]))
    params: dict[str, Any] = {"side": role, "cluster": cluster.to_json(), "opkgs": list(cluster.opkgs), **secrets}
    imaged = [one.name for one in opkgs if any(one.script(phase.name) for phase in phases.that_run("imaged", "server"))]
    on_head: tuple[Parent, ...] = ()
    if role == "compute" and imaged:
        params["imaged"] = imaged
        on_head = tuple(Parent("head", layer.task, layer.part) for layer in head)
    top = Step(
        "opkgs", name, f"layer: files and scripts of the OPKGs on {what}", "pipeline.opkgs.install:build",
        params=params, files=tuple(sorted(files.items())), parents=(*stack, *on_head), tools=LAYER_TOOLS)
    return ([*found, top], (*stack, Parent("layer", top.task)),
            Stack((f"lock:{base}", locked.task), under_test, top.task))
