"""Who builds what of Debian's packages."""

from __future__ import annotations

from pipeline.packages.family import Family, Maker

_UNPACKING = ("dpkg-deb", "tar", "zstd")
#: Where a rename is refused, those that change a root work on a copy of it.
_CHANGING = ("cp", *_UNPACKING)

DEB = Family(
    name="deb",
    package="Debian package",
    suffix=".deb",
    magic=b"!<arch>\n",
    mirrors="pipeline.packages.deb.mirrors:bases",
    releases="pipeline.packages.deb.mirrors:releases",
    index=Maker("pipeline.packages.deb.index:build", ("apt-get", "apt-config", "gpgv")),
    lock=Maker("pipeline.packages.deb.resolve:build", ("apt-get",)),
    fetch=Maker("pipeline.packages.deb.fetch:build", ("apt-config",)),
    root=Maker("pipeline.packages.deb.root:build", _UNPACKING),
    layer=Maker("pipeline.packages.deb.layer:build", _CHANGING),
    under_test=Maker("pipeline.packages.deb.under_test:build", _CHANGING),
    unpacked=Maker("pipeline.packages.deb.unpacked:build", _UNPACKING),
)
