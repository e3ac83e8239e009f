"""All benchmarks one after another, and their ratios in one table, as README holds it of the last good run.

    python benchmarks/all.py [NAME ...] [--keep]

Those that cannot run here are told and passed over.  `--keep`, on an idle machine, makes this run the last good one, in
`baseline.toml` and README.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import KEEP, REPORTS, TOP, aligned, baseline, ratios_of, say, start
from pipeline.files import write_whole
from pipeline.run import spawn

NAMES = ("noop", "growth", "incremental", "clean", "cutoff", "rpm", "cluster")
README = TOP / "README.md"
#: What stands before and after the table in README.
_BEGIN, _END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument(KEEP, action="store_true", help="keep the ratios as those of the last good run")
    words = parser.parse_args()
    measured, worse = {}, []
    for name in words.names or NAMES:
        say(name)
        argv: list[str | Path] = [
            sys.executable,
            Path(__file__).with_name(f"{name}.py"),
            *([KEEP] if words.keep else []),
        ]
        with spawn(argv, env=os.environ, cwd=TOP, stdout=sys.stderr.fileno()) as process:
            status = process.wait()
        if status:
            worse.append(f"{name}: not measured, status {status}")
            continue
        told = json.loads((REPORTS / f"{name}.json").read_bytes())
        measured[name] = ratios_of(told)
        worse += [f"{name}: {line}" for line in told["worse"]]
    print(table(measured))
    for line in worse:
        print(line)
    if words.keep:
        write_whole(README, with_table(README.read_text(), table(baseline())).encode())


def table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Ratios by benchmark, as people read them; less is better."""
    rows = [
        (name, f"{value:.2f} x", what) for name, values in sorted(measured.items()) for what, value in values.items()
    ]
    return "\n".join(aligned([("benchmark", "measured", ""), *rows], numbers=(1,)))


def with_table(readme: str, text: str) -> str:
    """README with another table."""
    before, rest = readme.split(_BEGIN)
    _, after = rest.split(_END)
    block = "".join(f"    {line}\n" for line in text.splitlines())
    return f"{before}{_BEGIN}\n{block}\n{_END}{after}"


if __name__ == "__main__":
    start(main)
