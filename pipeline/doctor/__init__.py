"""What on this host helps or hinders: each check tries the thing itself where it can, and says what to change.

A check is a function from the surroundings to one finding; it never raises for what it looks for.  What everything
else needs is asked first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.doctor.finding import Finding, Surroundings
from pipeline.doctor.host import (
    check_artifacts,
    check_guestfs,
    check_memory,
    check_modules,
    check_programs,
    check_shared_memory,
)
from pipeline.doctor.isolation import (
    check_32_bit,
    check_accelerator,
    check_bridge,
    check_identity,
    check_limits,
    check_namespaces,
    check_overlay,
)
from pipeline.doctor.network import check_clock, check_mirrors

Check = Callable[[Surroundings], Finding]

#: Without what one of these asks for, the next ones and the tries would only fail in misleading ways.
GATES: tuple[Check, ...] = (check_modules, check_programs, check_limits, check_namespaces)
TRIES: tuple[Check, ...] = (check_identity, check_overlay, check_bridge, check_32_bit, check_accelerator)
OTHERS: tuple[Check, ...] = (
    check_memory,
    check_shared_memory,
    check_artifacts,
    check_mirrors,
    check_clock,
    check_guestfs,
)


def examine(surroundings: Surroundings) -> Iterator[Finding]:
    """One finding after the other, each as soon as it is known."""
    for check in GATES:
        yield (finding := check(surroundings))
        if finding.level == "fail":
            tries: tuple[Check, ...] = ()
            break
    else:
        tries = TRIES
    for check in (*OTHERS, *tries):
        yield check(surroundings)


__all__ = ["Check", "Finding", "Surroundings", "examine"]
