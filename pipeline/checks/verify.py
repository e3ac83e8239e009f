"""Verification of a running cluster: ask once, judge, and let the OPKGs test themselves meanwhile.

The nodes spend most of the time on checksums of their files and the OPKGs' tests mostly wait, so both go on at
once.  All judging happens here, where a processor is not emulated.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from pipeline.checks.collect import collect
from pipeline.checks.facts import Facts, FactsError
from pipeline.checks.machine import CHECKS, Check, Subject
from pipeline.checks.opkgs import run_tests
from pipeline.checks.result import Result, Verdict
from pipeline.checks.shell import Shell
from pipeline.description import Cluster, Role
from pipeline.errors import UserError

#: How many OPKGs are tested at once; each test talks to all nodes already.
_LANES = 2
#: For all facts, checksums of every file included.
_COLLECT_TIMEOUT = 300


@dataclass(frozen=True)
class Expected:
    """What cannot be read off the description: package name -> version for each role, and the SIS image's name."""

    packages: Mapping[Role, Mapping[str, str]]
    image: str = "compute"


def verify(cluster: Cluster, shell: Shell, expected: Expected,
           progress: Callable[[Result], None] = lambda result: None) -> Verdict:
    """Check every machine of a running cluster; `progress` gets each result when it is known, in this thread."""
    started = time.time()
    hopeless = threading.Event()

    def facts() -> tuple[Result, ...]:
        results = _judge_all(cluster, shell, expected)
        if any(result.outcome != "passed" for result in results if result.name in ("facts", "ssh")):
            hopeless.set()
        return results

    def test(opkg: str) -> tuple[Result, ...]:
        if hopeless.is_set():
            return (Result(f"opkg {opkg}", cluster.head.name, "skipped", "a machine does not answer"),)
        return run_tests(opkg, cluster.head.name, shell)

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


def _judge_all(cluster: Cluster, shell: Shell, expected: Expected) -> tuple[Result, ...]:
    started = time.time()
    try:
        found = collect(cluster, shell, expected.image, timeout=_COLLECT_TIMEOUT)
    except FactsError as error:
        return (Result("facts", cluster.head.name, "error", str(error), "", started, time.time() - started),)
    except UserError as error:
        return (Result("facts", cluster.head.name, "error", error.message, error.tail, started,
                       time.time() - started),)
    return judge(cluster, found, expected, started)


def judge(cluster: Cluster, found: Mapping[str, Facts], expected: Expected, started: float) -> tuple[Result, ...]:
    """All results that follow from facts, machine by machine."""
    results: list[Result] = []
    for machine in cluster.machines:
        facts = found.get(machine.name, Facts(machine.name, {}))
        subject = Subject(machine, facts, expected.packages[machine.role], found[cluster.head.name])
        silent = "hostname" not in facts.sections
        for check in CHECKS:
            if machine.role not in check.roles:
                continue
            if silent and not check.from_head:
                results.append(Result(check.name, machine.name, "skipped", "no answer to ssh", started=started))
            else:
                results.append(dataclasses.replace(_apply(check, subject), started=started))
    return tuple(results)


def _apply(check: Check, subject: Subject) -> Result:
    try:
        finding = check.evaluate(subject)
    except ValueError as error:
        return Result(check.name, subject.machine.name, "error", str(error))
    return Result(check.name, subject.machine.name, "failed" if finding.problems else "passed",
                  "; ".join(finding.problems) or finding.seen, finding.output, seconds=finding.seconds)
