"""The tests that OPKGs bring along: `testing/test_root` as root, `testing/test_user` as an ordinary user.

OSCAR's contract: exit status 0 is success, whatever is printed is for people.
"""

from __future__ import annotations

import shlex
import time
from typing import Literal

from pipeline.checks.collect import new_mark
from pipeline.checks.result import Result
from pipeline.checks.shell import Runs
from pipeline.errors import UserError
from pipeline.opkgs.phases import PACKAGES, environment

_USER = "oscartst"
#: Seconds for one test, where the nodes are few.  Tests have shorter deadlines of their own and say more; this ends one
#: that hangs.
LIMIT = 240
_KEPT = 64 * 1024

_SCRIPT = r"""
section() { printf '\n%s %s\n' "$mark" "$1"; }
cd "$folder" || exit 1
work=$(mktemp) || exit 1
trap 'rm -f "$work"' EXIT
attempt() {
    [ -e "testing/$1" ] || return 0
    start=$(date +%s.%N)
    "$2" "$folder/testing/$1" < /dev/null > "$work" 2>&1
    section "$1 $? $start $(date +%s.%N)"
    tail -c "$kept" "$work"
}
as_root() { timeout -k 5 "$limit" "$1"; }
as_user() {
    cd / && timeout -k 5 "$limit" runuser -u "$user" -- env HOME="$(getent passwd "$user" | cut -d : -f 6)" \
        USER="$user" LOGNAME="$user" sh -c 'cd "$HOME" && exec "$1"' sh "$1"
}
attempt test_root as_root
attempt test_user as_user
section end
"""


def run_tests(opkg: str, head: str, shell: Runs, *, patience: float = 1.0) -> tuple[Result, ...]:
    """Run the tests of one OPKG on the head node; an OPKG without tests gives no result.

    `patience` is how many times as long as usual each may take, for tests talk to all nodes.
    """
    limit = LIMIT * patience
    mark, started = new_mark(), time.time()

    def result(
        test: str,
        outcome: Literal["passed", "failed", "error"],
        message: str = "",
        output: str = "",
        since: float = started,
        seconds: float = 0.0,
    ) -> Result:
        return Result(f"opkg {opkg}{test}", head, outcome, message, output, since, seconds)

    variables = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment(opkg, "head").items())
    words = {"mark": mark, "folder": f"{PACKAGES}/{opkg}", "user": _USER, "limit": f"{limit:g}", "kept": str(_KEPT)}
    script = "\n".join([*(f"{name}={shlex.quote(value)}" for name, value in words.items()), variables + _SCRIPT])
    try:
        status, stdout, stderr = shell.run(head, script, timeout=2 * limit + 30)
    except UserError as error:
        return (result("", "error", error.message, error.tail),)
    if f"\n{mark} end" not in stdout:
        return (
            result(
                "",
                "failed" if status == 1 else "error",
                (stderr.strip() or f"exit status {status}, no output").splitlines()[-1],
                stderr,
            ),
        )
    results, since = [], started
    for section in stdout.split(f"\n{mark} ")[1:-1]:
        heading, _, output = section.partition("\n")
        try:
            test, code, start, end = heading.split()
            status, seconds = int(code), float(end) - float(start)
        except ValueError:
            return (result("", "error", f"what came back cannot be read: {heading}", stdout),)
        results.append(
            result(
                f" {test}", "failed" if status else "passed", _message(status, output, limit), output, since, seconds
            )
        )
        since += seconds
    return tuple(results)


def _message(status: int, output: str, limit: float) -> str:
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it printed nothing")
    if status in (124, 137):
        return f"no end after {limit:g} s; last: {last}"
    return last if status == 0 else f"exit status {status}: {last}"
