"""What all benchmarks share: facts about the machine, timing, and one table with goals, kept as JSON as well.

A time means nothing without the machine and its load, and little without something to hold it against that ran in
the same minute: each benchmark therefore prints both.  Goals are told as met or missed and never asserted.

What can be compared from one run to the next are ratios (unit "x"; less is better).  Those of the last good run are in
`baseline.toml`: `--keep`, on an idle machine, writes them there, and every run tells those that got worse.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import resource
import signal
import statistics
import sys
import time
import tomllib
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import write_whole
from pipeline.run import Completed, run

TOP = Path(__file__).resolve().parents[1]
ARTIFACTS = Path(os.environ.get("XEN_OSCAR_ARTIFACTS") or TOP / "artifacts").resolve()
#: doit of the environment that runs the benchmark.
DOIT = Path(sys.executable).with_name("doit")
#: What each benchmark told last, as NAME.json.
REPORTS = ARTIFACTS / "reports" / "benchmarks"
#: The ratios of the last good run.
BASELINE = Path(__file__).with_name("baseline.toml")
KEEP = "--keep"
_DEADLINE = 3600
#: How many times as large a ratio must be to count as worse.
_TOLERANCE = 1.15


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


def processor_used() -> float:
    """Seconds of processors that all children took that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bare_doit() -> float:
    """Seconds of processors for a Python that imports doit and no more: what short runs are held against."""
    before = processor_used()
    timed([sys.executable, "-c", "import doit.doit_cmd"])
    return processor_used() - before


def fixed_work() -> float:
    """Seconds for a piece of work that is always the same, for what no other tool does as well."""
    data = b"".join(hashlib.sha256(str(number).encode()).digest()[:8] * 64 for number in range(1 << 16))
    started = time.monotonic()
    zlib.compress(data, 9)
    return time.monotonic() - started


def spread(values: Sequence[float]) -> str:
    """How far single runs lie apart."""
    return f"median of {len(values)}: {min(values):.2f} to {max(values):.2f}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def say(text: str) -> None:
    """Tell what is being done; standard output is for the table."""
    print(f"# {text}", file=sys.stderr, flush=True)


def report(name: str, title: str, rows: Sequence[Row], before: Machine, notes: Sequence[str] = (), **more: Any) -> None:
    """Print the table, and what got worse; keep it with everything else in artifacts/reports/benchmarks/NAME.json."""
    after = machine()
    measured = ratios(rows)
    worse = regressions(baseline().get(name, {}), measured)
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
    print(title)
    for line in aligned(table, numbers=(1, 2)):
        print(f"  {line}")
    for note in (*notes, *worse):
        print(f"  {note}")
    print(
        f"  {before.cpu}, {before.cores} cores, {before.memory_mib} MiB ({before.available_mib} available), "
        f"Linux {before.kernel}, {before.accelerator}"
    )
    print(f"  load {_load(before)} before, {_load(after)} after")
    write_whole(
        REPORTS / f"{name}.json",
        json.dumps(
            {
                "benchmark": name,
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows],
                "notes": list(notes),
                "worse": worse,
                "machine_before": dataclasses.asdict(before),
                "machine_after": dataclasses.asdict(after),
                **more,
            },
            indent=1,
        ).encode(),
    )
    if KEEP in sys.argv:
        keep(name, measured)


def aligned(table: Sequence[tuple[str, ...]], *, numbers: Collection[int]) -> list[str]:
    """Rows as lines; the columns that are `numbers` stand to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            f"{word:>{width}}" if column in numbers else f"{word:<{width}}"
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    ]


# --- ratios from one run to the next


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """The ratios among what was measured."""
    return {row.what.strip(): row.value for row in rows if row.unit == "x"}


def ratios_of(told: Mapping[str, Any]) -> dict[str, float]:
    """The same, from what a benchmark has kept as JSON."""
    return {row["what"].strip(): row["value"] for row in told["rows"] if row["unit"] == "x"}


def baseline(file: Path = BASELINE) -> dict[str, dict[str, float]]:
    """Benchmark -> its ratios at the last good run; none where no run was kept."""
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}


def regressions(kept: Mapping[str, float], measured: Mapping[str, float]) -> list[str]:
    """What got worse by more than is chance, or is no longer measured, in words."""
    found = [
        f"WORSE: {what}: {measured[what]:.2f} x, last good run {before:.2f} x (+{measured[what] / before - 1:.0%})"
        for what, before in kept.items()
        if what in measured and measured[what] > before * _TOLERANCE
    ]
    return [*found, *(f"not measured this time: {what}" for what in kept if what not in measured)]


def keep(name: str, measured: Mapping[str, float], file: Path = BASELINE) -> None:
    """Put the ratios of a benchmark in the place of those that were kept of it."""
    kept = {**baseline(file), name: dict(measured)}
    lines = ["# Ratios of the last good run; less is better.  Written by: python benchmarks/NAME.py --keep"]
    for benchmark, values in sorted(kept.items()):
        if values:
            lines += ["", f"[{benchmark}]", *(f"{json.dumps(what)} = {value:.2f}" for what, value in values.items())]
    write_whole(file, ("\n".join(lines) + "\n").encode())


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
