"""The folders of extracted layers are made once, whoever wants them first and how many do so at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import sandbox
from pipeline.layers import cache


def test_many_steps_at_once_find_the_same_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr(cache, "_MEMORY", tmp_path / "memory")
    for turn in range(20):
        artifacts = tmp_path / str(turn)
        together = threading.Barrier(8)

        def one(artifacts: Path = artifacts, together: threading.Barrier = together) -> tuple[Path, ...]:
            together.wait(30)
            found = cache.folders(artifacts)
            (found[-1] / f"layer-{threading.get_ident()}").touch()
            return found

        with ThreadPoolExecutor(8) as pool:
            found = {future.result() for future in [pool.submit(one) for _ in range(8)]}
        assert len(found) == 1
        made = found.pop()[-1]
        assert made.stat().st_uid == sandbox.identity().uid and made.stat().st_mode & 0o077 == 0
        assert [path.name for path in made.parent.iterdir()] == [made.name], "nothing half-made is left"
        assert len(list(made.iterdir())) >= 1
