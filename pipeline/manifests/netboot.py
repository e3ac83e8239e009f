"""What the pair of kernel and ramdisk that installs compute nodes is made of, for one architecture."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.manifests.fields import HostName, Items, PackageName
from pipeline.manifests.loader import Manifest


class Netboot(Manifest):
    """The installer and the tools that make disks: `recipes/netboot/ARCHITECTURE.toml`."""

    distro: HostName
    """The name of the distribution (a file in recipes/distros) that its packages come from."""
    packages: Annotated[Items[PackageName], Field(min_length=1)]
    """The packages whose programs are used."""
