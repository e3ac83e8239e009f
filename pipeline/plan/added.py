"""What is made for an OPKG that comes to a cluster while it runs: locks of its packages, and their files."""

from __future__ import annotations

from pipeline.description import Cluster
from pipeline.manifests.recipes import Recipes
from pipeline.opkgs import model
from pipeline.opkgs.phases import side_of
from pipeline.plan.distro import asked, fetch, lock
from pipeline.step import Made, Step


def steps(recipes: Recipes, cluster: Cluster, made: Made, opkg: str) -> dict[str, tuple[Step, Step]]:
    """By membership: the lock of what the OPKG asks for on top of all that these machines have, so that nothing of it
    would be replaced; and the packages."""
    distro, found = recipes.distro(cluster.distro), {}
    for membership, stack in made.stacks.items():
        name = f"{cluster.name}/{membership}/opkg-{opkg}"
        what = f"the packages of OPKG {opkg} on {membership} nodes of {cluster.name}"
        wanted = asked(f"OPKG {opkg}", model.packages(recipes.opkg(opkg), side_of(membership), distro))
        found[membership] = lock(name, what, distro, wanted, *stack.locks), fetch(recipes, name, what, distro)
    return found
