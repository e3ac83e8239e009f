"""What all benchmarks share: facts about the machine, timing, and one table with goals, kept as JSON as well.

A time means nothing without the machine and its load, and little without something to hold it against that ran in
the same minute: each benchmark therefore prints both.  Goals are told as met or missed and never asserted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.run import Completed, run

TOP = Path(__file__).resolve().parents[1]
ARTIFACTS = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or TOP / "artifacts").resolve()
#: doit of the environment that runs the benchmark.
DOIT = Path(sys.executable).with_name("doit")
_DEADLINE = 3600


@dataclass(frozen=True)
class Row:
    """One measured value; `goal` is the most it should be, None where there is none."""

    what: str
    value: float
    unit: str = "s"
    goal: float | None = None
    detail: str = ""

    @property
    def verdict(self) -> str:
        return "" if self.goal is None else "pass" if self.value <= self.goal else "MISS"


@dataclass(frozen=True)
class Machine:
    """Where the numbers are from."""

    cpu: str
    cores: int
    memory_mib: int
    available_mib: int
    load: tuple[float, float, float]
    kernel: str
    accelerator: str


def machine() -> Machine:
    """This machine, now."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = {
        line.partition(":")[0]: int(line.split()[1]) // 1024 for line in Path("/proc/meminfo").read_text().splitlines()
    }
    try:
        accelerator = str(json.loads((ARTIFACTS / "cache" / "accelerator.json").read_bytes())["accelerator"])
    except (OSError, ValueError, KeyError):
        accelerator = "not probed yet"
    return Machine(
        cpu,
        len(os.sched_getaffinity(0)),
        memory["MemTotal"],
        memory["MemAvailable"],
        os.getloadavg(),
        platform.release(),
        accelerator,
    )


def timed(
    argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path = TOP, deadline: float = _DEADLINE
) -> tuple[float, Completed]:
    """Run a command that must succeed, with the caller's environment; its wall time and its output."""
    started = time.monotonic()
    done = run(argv, env={**os.environ, **(env or {})}, cwd=cwd, timeout=deadline)
    return time.monotonic() - started, done


def spread(values: Sequence[float]) -> str:
    """How far single runs lie apart."""
    return f"median of {len(values)}: {min(values):.2f} to {max(values):.2f}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def say(text: str) -> None:
    """Tell what is being done; standard output is for the table."""
    print(f"# {text}", file=sys.stderr, flush=True)


def report(name: str, title: str, rows: Sequence[Row], before: Machine, notes: Sequence[str] = (), **more: Any) -> None:
    """Print the table, and keep it with everything else in artifacts/reports/benchmarks/NAME.json."""
    after = machine()
    table = [("", "measured", "goal", "", "")]
    table += [
        (
            row.what,
            _amount(row.value, row.unit),
            "" if row.goal is None else f"<= {_amount(row.goal, row.unit)}",
            row.verdict,
            row.detail,
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    print(title)
    for what, value, goal, verdict, detail in table:
        line = f"  {what:<{widths[0]}}  {value:>{widths[1]}}  {goal:>{widths[2]}}  {verdict:<{widths[3]}}  {detail}"
        print(line.rstrip())
    for note in notes:
        print(f"  {note}")
    print(
        f"  {before.cpu}, {before.cores} cores, {before.memory_mib} MiB ({before.available_mib} available), "
        f"Linux {before.kernel}, {before.accelerator}"
    )
    print(f"  load {_load(before)} before, {_load(after)} after")
    target = ARTIFACTS / "reports" / "benchmarks" / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps(
            {
                "benchmark": name,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows],
                "notes": list(notes),
                "machine_before": dataclasses.asdict(before),
                "machine_after": dataclasses.asdict(after),
                **more,
            },
            indent=1,
        )
    )


def start(main: Callable[[], None]) -> None:
    """Run a benchmark: failures in a few lines, and SIGTERM cleans up as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        main()
    except UserError as error:
        raise SystemExit(error.render()) from None
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None


def _amount(value: float, unit: str) -> str:
    if unit in ("MiB", ""):
        return f"{value:.0f} {unit}".rstrip()
    return f"{value:.2f} {unit}"


def _load(facts: Machine) -> str:
    return " ".join(f"{value:.1f}" for value in facts.load)
