"""What is no package under test, though it may be called one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.packages.rpm import under_test
from tests import rpmsuite
from tests.namespaced import job


def test_what_is_no_package_under_test(tmp_path: Path) -> None:
    suite = rpmsuite.make(tmp_path / "suite")
    good = suite.rpm("tool")
    (tmp_path / "x[a].rpm").write_text("no package")
    (tmp_path / "xa.rpm").write_bytes(good.read_bytes())
    (tmp_path / "list.rpm").write_text(f"{good}\n")  # rpm takes such a text for the packages that it names
    (tmp_path / "torn.rpm").write_bytes(good.read_bytes()[:100])
    spec = suite.folder / "tool-1.spec"
    subprocess.run(["rpmbuild", "-bs", "--quiet", "--define", f"_topdir {tmp_path}/top", spec], check=True, timeout=120)
    (source,) = (tmp_path / "top/SRPMS").iterdir()
    for file, told in (
        (tmp_path / "list.rpm", "list.rpm is no package that rpm can read"),
        (tmp_path / "x[a].rpm", "x[a].rpm is no package that rpm can read"),
        (tmp_path / "torn.rpm", "torn.rpm is no package that rpm can read"),
        (source, "is a source package"),
        (tmp_path / "gone.rpm", "no such package file"),
    ):
        with pytest.raises(BuildError, match=re.escape(told)):
            under_test.build(job(tmp_path / f"job-{file.stem}", {"packages": [str(file)], "database": "/x"}))
