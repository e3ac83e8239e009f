"""What is saved below a folder is heard of, once for all that comes together."""

from __future__ import annotations

from pathlib import Path

from pipeline.commands.saved import Saved


def test_what_is_saved_is_heard_of(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_text("1")
    with Saved(tmp_path) as saved:
        assert not saved.wait(0)
        (tmp_path / "a/file").read_text()
        assert not saved.wait(0), "to read is no change"
        (tmp_path / "a/.file.swp").write_text("2")
        (tmp_path / "a/.file.swp").rename(tmp_path / "a/file")
        assert saved.wait(1000)
        assert not saved.wait(0), "all of it was one"
        (tmp_path / "a/file").chmod(0o755)
        assert saved.wait(1000)
        (tmp_path / "a/b/c").mkdir(parents=True)
        assert saved.wait(1000)
        (tmp_path / "a/b/c/file").write_text("1")
        assert saved.wait(1000), "in folders that are new"
        (tmp_path / "a/b/c/file").unlink()
        assert saved.wait(1000)
