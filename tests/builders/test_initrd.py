"""The ramdisk of installed machines where their own kernel package makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.builders import initrd
from pipeline.errors import BuildError
from pipeline.guests import kernel
from pipeline.rootfs import RootFs


def test_a_ramdisk_that_the_kernels_package_made_is_used_and_a_missing_one_is_told(tmp_path: Path) -> None:
    for path in ("boot/vmlinuz-2.6.17-1.2142_FC4", "lib/modules/2.6.17-1.2142_FC4/modules.dep"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    with RootFs(tmp_path) as root:
        found = kernel.find(root)
        with pytest.raises(BuildError, match=r"no ramdisk /boot/initrd-2\.6\.17-1\.2142_FC4\.img") as caught:
            initrd._own(found)
        assert "mkinitrd" in (caught.value.hint or "")
        (tmp_path / "boot/initrd-2.6.17-1.2142_FC4.img").touch()
        assert initrd._own(found) == "initrd-2.6.17-1.2142_FC4.img"
