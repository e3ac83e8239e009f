"""What verification says: results and the verdict, as frozen data that survives a round trip through JSON.

A verdict is an artifact: it is stored by the digests of what was verified, and a report can be written from it
long after the machines are gone.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, Self

from pipeline import foreign

#: failed: the machine is not as it should be.  error: the check itself could not be made.
#: skipped: it made no sense, because of something that another result tells.
Outcome = Literal["passed", "failed", "error", "skipped"]

_FORMAT = 1

#: Characters, and seconds: more than either is not what it claims to be.
_LONGEST_OUTPUT, _LONGEST_CHECK = 200_000, 1e6


@dataclass(frozen=True)
class Result:
    """One check of one machine.  `message` is one line; `output` is what a person needs to see why."""

    name: str
    machine: str
    outcome: Outcome
    message: str = ""
    output: str = ""
    started: float = 0.0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.outcome in ("passed", "skipped")

    def bounded(self) -> Self:
        """As it is kept: clean and no longer than anybody reads, for what is in it machines have said."""
        sane = 0 <= self.seconds < _LONGEST_CHECK  # false for what is no number
        return dataclasses.replace(
            self,
            message=foreign.line(self.message),
            output=foreign.clip(foreign.clean(self.output), _LONGEST_OUTPUT),
            seconds=self.seconds if sane else 0.0,
        )


@dataclass(frozen=True)
class Verdict:
    """All results of one verification.  `started` is in seconds since the epoch."""

    cluster: str
    started: float
    seconds: float
    results: tuple[Result, ...]

    @property
    def outcome(self) -> Literal["passed", "failed"]:
        """Passed when something was checked and nothing failed or went wrong."""
        good = all(result.good for result in self.results)
        return "passed" if good and any(result.outcome == "passed" for result in self.results) else "failed"

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"

    @property
    def bad(self) -> tuple[Result, ...]:
        return tuple(result for result in self.results if not result.good)

    def count(self, outcome: Outcome) -> int:
        return Counter(result.outcome for result in self.results)[outcome]

    def to_json(self) -> dict[str, Any]:
        return {"format": _FORMAT, "outcome": self.outcome, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The verdict `to_json` gave; ValueError where the data is of another format."""
        if data.get("format") != _FORMAT:
            raise ValueError(f"a verdict of format {data.get('format')!r}, not {_FORMAT}")
        fields = {key: data[key] for key in ("cluster", "started", "seconds")}
        return cls(**fields, results=tuple(Result(**item) for item in data["results"]))
