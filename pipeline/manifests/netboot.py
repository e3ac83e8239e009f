"""What the pair of kernel and ramdisk that installs compute nodes is made of, for one architecture."""

from __future__ import annotations

from pipeline.manifests.fields import DebName, SomeItems
from pipeline.manifests.loader import Manifest


class Netboot(Manifest):
    """The installer and the tools that make disks: `recipes/netboot/ARCHITECTURE.toml`."""

    distro: str
    """The name of the distribution (a file in recipes/distros) that its packages come from."""
    packages: SomeItems[DebName]
    """The packages whose programs are used."""
