"""Verification of a running cluster: ask once, judge, and let the OPKGs test themselves meanwhile.

The nodes spend most of the time on checksums of their files and the OPKGs' tests mostly wait, so both go on at
once.  All judging happens here, where a processor is not emulated.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from pipeline.checks.collect import collect
from pipeline.checks.facts import Facts, FactsError
from pipeline.checks.machine import CHECKS, Check
from pipeline.checks.opkgs import run_tests
from pipeline.checks.result import Result, Verdict
from pipeline.checks.shell import Shell
from pipeline.checks.subject import Subject
from pipeline.description import Cluster, Role
from pipeline.errors import UserError
from pipeline.guests.guest import Guest
from pipeline.inventory import Changes, Tree
from pipeline.packages.family import Family

#: How many OPKGs are tested at once; each test talks to all nodes already.
_LANES = 2
#: Seconds for all facts, checksums of every file included, where the nodes are few.
_COLLECT_TIMEOUT = 900


@dataclass(frozen=True)
class Added:
    """What OPKGs that came or went while a machine ran have made of it: package name -> version of what they brought,
    and what stands where they changed anything."""

    packages: Mapping[str, str]
    changes: Changes


@dataclass(frozen=True)
class Expected:
    """What cannot be read off the description, for each membership: package name -> version, and what its SIS image or
    the head node's disk holds; what kind of system runs there, and of what packages; for each role path -> who changed
    it when it was made already; and what came to a machine by its name."""

    packages: Mapping[str, Mapping[str, str]]
    files: Mapping[str, Tree]
    guest: Guest
    family: Family
    configured: Mapping[Role, Mapping[str, str]] = field(default_factory=lambda: {"head": {}, "compute": {}})
    added: Mapping[str, Added] = field(default_factory=dict)


def verify(
    cluster: Cluster,
    shell: Shell,
    expected: Expected,
    progress: Callable[[Result], None] = lambda result: None,
    *,
    lanes: int = 32,
    patience: float = 1.0,
) -> Verdict:
    """Check every machine of a running cluster; `progress` gets each result when it is known, in this thread.

    The head node asks so many nodes at once as `lanes` says, and as it has memory for; all deadlines are multiplied by
    `patience`.
    """
    started = time.time()
    hopeless = threading.Event()

    def facts() -> tuple[Result, ...]:
        results = _judge_all(cluster, shell, expected, lanes=lanes, patience=patience)
        if any(result.outcome != "passed" for result in results if result.name in ("facts", "ssh")):
            hopeless.set()
        return tuple(result.bounded() for result in results)

    def test(opkg: str) -> tuple[Result, ...]:
        if hopeless.is_set():
            return (Result(f"opkg {opkg}", cluster.head.name, "skipped", "a machine does not answer"),)
        return tuple(result.bounded() for result in run_tests(opkg, cluster.head.name, shell, patience=patience))

    # While facts are collected, _LANES workers are left for the tests.
    with ThreadPoolExecutor(1 + _LANES, "verify") as pool:
        futures: list[Future[tuple[Result, ...]]] = [pool.submit(facts)]
        futures += [pool.submit(test, opkg) for opkg in cluster.opkgs]
        try:
            for future in as_completed(futures):
                for result in future.result():
                    progress(result)
        except BaseException:
            hopeless.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    results = tuple(result for future in futures for result in future.result())
    return Verdict(cluster.name, started, time.time() - started, results)


def _judge_all(
    cluster: Cluster, shell: Shell, expected: Expected, *, lanes: int, patience: float
) -> tuple[Result, ...]:
    """All that follows from facts, in the order of the machines; of each the facts are forgotten when it was judged."""
    started = time.time()
    found: dict[str, tuple[Result, ...]] = {}
    trouble: tuple[Result, ...] = ()
    try:
        for facts in collect(
            cluster,
            shell,
            expected.guest,
            expected.family,
            changes={name: added.changes for name, added in expected.added.items()},
            lanes=lanes,
            timeout=_COLLECT_TIMEOUT * patience,
        ):
            found[facts.machine] = judge(cluster, facts, expected, started)
    except (FactsError, UserError) as error:
        message, tail = (error.message, error.tail) if isinstance(error, UserError) else (str(error), "")
        trouble = (Result("facts", cluster.head.name, "error", message, tail, started, time.time() - started),)
    if found:
        for machine in cluster.machines:
            if machine.name not in found:
                found[machine.name] = judge(cluster, Facts(machine.name, {}), expected, started)
    return (*trouble, *(result for machine in cluster.machines for result in found.get(machine.name, ())))


def judge(
    cluster: Cluster, facts: Facts, expected: Expected, started: float, only: Collection[str] = ()
) -> tuple[Result, ...]:
    """All results that follow from the facts of one machine, or `only` those of checks with these names."""
    machine = cluster.machine(facts.machine)
    added = expected.added.get(machine.name, Added({}, {}))
    subject = Subject(
        machine,
        facts,
        cluster.networks,
        {**expected.packages[machine.membership], **added.packages},
        expected.files[machine.membership],
        expected.guest.known_on(cluster),
        expected.family,
        expected.configured[machine.role],
        added.changes,
    )
    silent = "hostname" not in facts.sections
    return tuple(
        Result(check.name, machine.name, "skipped", "no answer to ssh", started=started)
        if silent and not check.from_head
        else dataclasses.replace(_apply(check, subject), started=started)
        for check in CHECKS
        if machine.role in check.roles and (not only or check.name in only)
    )


def _apply(check: Check, subject: Subject) -> Result:
    try:
        finding = check.evaluate(subject)
    except (ValueError, ArithmeticError, LookupError) as error:  # a machine may say anything
        return Result(check.name, subject.machine.name, "error", str(error))
    return Result(
        check.name,
        subject.machine.name,
        "failed" if finding.problems else "passed",
        "; ".join(finding.problems) or finding.seen,
        finding.output,
        seconds=finding.seconds,
    )
