"""doit's state, kept in memory only.

doit wants a database of what was up to date.  Here the store is the truth and asking it is cheap, while a database
would be lost by a kill, and would be written over by a second run at once.
"""

from __future__ import annotations

from typing import Any


class MemoryDB:
    """A doit backend that forgets everything at the end of the run."""

    desc = "in memory; the artifact store is the truth"

    def __init__(self, name: str, codec: object, *, module_name: str | None = None) -> None:
        self.name = name
        self._tasks: dict[str, dict[str, Any]] = {}

    def dump(self) -> None:
        """Nothing outlives the run."""

    def set(self, task_id: str, dependency: str, value: Any) -> None:
        self._tasks.setdefault(task_id, {})[dependency] = value

    def get(self, task_id: str, dependency: str) -> Any:
        return self._tasks.get(task_id, {}).get(dependency)

    def in_(self, task_id: str) -> bool:
        return task_id in self._tasks

    def remove(self, task_id: str) -> None:
        self._tasks.pop(task_id, None)

    def remove_all(self) -> None:
        self._tasks.clear()
