"""What is done on machines that run while an OPKG comes or goes, or is tried: calls of `onmachine.sh`, their output."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.checks import facts
from pipeline.checks.collect import FOLDER, mount_points, new_mark
from pipeline.checks.facts import Facts, FactsError
from pipeline.cluster.beside import threads
from pipeline.cluster.opkglog import log
from pipeline.description import Machine
from pipeline.errors import ClusterError, NotNow, UserError
from pipeline.guests import flavours
from pipeline.guests.guest import Guest
from pipeline.inventory import Entry
from pipeline.opkgs.phases import environment
from pipeline.packages.families import FAMILIES
from pipeline.packages.family import Family
from pipeline.report.model import Phase
from pipeline.shell import ClusterShell

if TYPE_CHECKING:
    from pipeline.cluster.lifecycle import Lifecycle

_Result = TypeVar("_Result")

#: A machine, some or none, and what was done there.
Told = tuple[str, str]

#: What is told of a file that was to be taken away.
_STAYS = {"changed": "was changed since and stays", "kept": "stays: another OPKG has it, too"}

#: Seconds for one script, as while roots are built, and for all that a function does.
_SCRIPT, _PACKAGES = 300, 900
#: Nodes that are asked at a time: a shared connection has ten sessions (sshd_config(5), MaxSessions).
_LANES = 8
#: What can be done where something failed.
_AGAIN = "when that is put right, the same command does all of it once more"
#: Lines of output that an error shows.
_TOLD = 12


class OnMachines:
    """The machines of one cluster, over one connection; `patience` is how many times as long as usual all may take.

    What fails on a machine is a ClusterError that names it, and where its output is kept.
    """

    def __init__(
        self,
        shell: ClusterShell,
        family: Family,
        guest: Guest,
        run_dir: Path,
        record: Callable[[Phase], None],
        patience: float,
    ) -> None:
        self._shell = shell
        self._run_dir = run_dir
        self._record = record
        self._patience = patience
        self._functions = (
            family.changing + guest.starting + guest.services + (Path(__file__).parent / "onmachine.sh").read_text()
        )
        self._mark = new_mark()

    def connected(self) -> AbstractContextManager[None]:
        """Keep one connection open within the block."""
        return self._shell.connected()

    def install(self, machines: Sequence[Machine], opkgs: Sequence[str], data: Mapping[str, bytes]) -> None:
        """Note what there is, bring what OPKGs bring to machines of each membership, and install the packages."""
        function, what = (
            f"begin && {shlex.join(['receive', *opkgs])} && packages",
            f"packages of OPKG {', '.join(opkgs)}",
        )
        _each(machines, lambda machine: self._call(machine, "", function, what, data[machine.membership]))

    def call(self, machines: Sequence[Machine], opkg: str, function: str, what: str, data: bytes = b"") -> list[Told]:
        """Call functions on all of them, which read `data`; the machines, and the lines that were marked there."""
        found = _each(machines, lambda machine: self._call(machine, opkg, function, what, data))
        return [(machine.name, line) for machine, lines in zip(machines, found, strict=True) for line in lines]

    def take_away(self, machines: Sequence[Machine], opkg: str, function: str, what: str) -> Iterator[Told]:
        """The same for functions that take files away; what stays of them."""
        for machine, line in self.call(machines, opkg, function, what):
            why, _, path = line.partition(" ")
            yield machine, f"OPKG {opkg}: {path} {_STAYS.get(why, why)}"

    def phase(self, machines: Sequence[Machine], opkg: str, script: str, *, leaving: bool = False) -> Iterator[Told]:
        """Run the script of a phase; a compute node has the OPKG's folder as long as it runs."""
        hint = (
            f"where that script is wrong: doit opkg install {self._shell.cluster.name} {opkg} brings today's, "
            "then remove it again"
        )

        def run(machine: Machine) -> None:
            steps = [f"last_phase {script}"] if leaving else [f"phase {script}"]
            if machine.role == "compute":
                steps = ["take_home" if leaving else "bring_home", *steps, "take_home"]
            self._call(machine, opkg, " && ".join(steps), f"{script} of OPKG {opkg}", hint=hint if leaving else _AGAIN)

        _each(machines, run)
        yield from ((machine.name, f"OPKG {opkg}: {script}") for machine in machines)

    def start(self, machines: Sequence[Machine]) -> Iterator[Told]:
        """Start what a boot would start by now."""
        started: dict[str, list[str]] = {}
        for machine, line in self.call(machines, "", "start", "start of services"):
            started.setdefault(machine, []).append(line.removeprefix("started "))
        yield from ((machine, f"{', '.join(names)} started") for machine, names in started.items())

    def tell(
        self, machines: Sequence[Machine], function: str, what: str, data: bytes = b""
    ) -> dict[str, tuple[list[str], Facts]]:
        """Call functions on all of them that tell facts in the end; by machine the marked lines, and these."""

        def ask(machine: Machine) -> tuple[list[str], Facts]:
            started = time.time()
            status, out, errors = self._run(machine, "", function, data)
            before, section, after = out.partition(f"\n{self._mark} hostname\n")
            lines = self._heard(machine, what, started, status, before, errors)
            return lines, _facts(machine.name, section + after, self._mark)

        return dict(zip((machine.name for machine in machines), _each(machines, ask), strict=True))

    def changed(self, machine: Machine) -> dict[str, Entry | None]:
        """What has changed there since the beginning, as it is now; None where a name is gone."""
        status, out, errors = self._run(machine, "", "finish")
        try:
            if status:
                raise FactsError(f"it ended with status {status}")
            return as_found(out, self._mark)
        except ValueError as error:
            raise ClusterError(
                f"{machine.name}: it does not tell what has changed there: {error}",
                tail="\n".join(errors.splitlines()[-_TOLD:]),
            ) from None

    def _call(
        self, machine: Machine, opkg: str, function: str, what: str, data: bytes = b"", hint: str = _AGAIN
    ) -> list[str]:
        started = time.time()
        return self._heard(machine, what, started, *self._run(machine, opkg, function, data), hint)

    def _heard(
        self, machine: Machine, what: str, started: float, status: int, out: str, errors: str, hint: str = _AGAIN
    ) -> list[str]:
        """The lines that were marked; ClusterError where it failed."""
        self._record(Phase(machine.name, what, started, time.time()))
        said = "\n".join(filter(None, (out.rstrip(), errors.rstrip())))
        kept = log(self._run_dir, f"{machine.name}: {what}, status {status}", said)
        if status:
            how = f"took more than {_SCRIPT * self._patience:g} s" if status == 124 else f"ended with status {status}"
            raise ClusterError(
                f"{machine.name}: {what} {how}",
                tail="\n".join(said.splitlines()[-_TOLD:]),
                log=kept,
                hint=hint,
            )
        marked = f"{self._mark} "
        return [line.removeprefix(marked) for line in out.split("\n") if line.startswith(marked)]

    def _run(self, machine: Machine, opkg: str, function: str, data: bytes = b"") -> tuple[int, str, str]:
        """Run functions there; `data` is what they read."""
        script = self._script(machine, opkg, function)
        return self._shell.run(machine.name, script, data=data, timeout=_PACKAGES * self._patience)

    def _script(self, machine: Machine, opkg: str, function: str) -> str:
        words = {
            "opkg": opkg,
            "mark": self._mark,
            "mounts": mount_points(machine),
            "limit": f"{_SCRIPT * self._patience:g}",
            "tree": (FOLDER / "tree.pl").read_text() if function == "finish" or "look_tried" in function else "",
        }
        lines = [f"{name}={shlex.quote(value)}" for name, value in words.items()]
        lines += [
            f"export {name}={shlex.quote(value)}" for name, value in environment(opkg, machine.membership).items()
        ]
        return "\n".join([*lines, self._functions, f"alone || exit\n{{ {function}; }} 9>&-", ""])


def of(life: Lifecycle, shell: ClusterShell | None = None) -> OnMachines:
    """The machines of a cluster that runs; by a shell that there is, or by one of its own."""
    name = life.cluster.name
    if name not in life.plan.made:
        raise NotNow(
            f"{name}: its recipe is gone, which says of what kind its packages are", hint="bring it back first"
        )
    family, guest = FAMILIES[life.made.family], flavours.of(life.cluster.guest)
    return OnMachines(shell or life.shell(), family, guest, life.run_dir, life.runner.record, life.patience())


@contextlib.contextmanager
def noting_changes(life: Lifecycle, on: OnMachines) -> Iterator[None]:
    """Write down what stands on all machines where it has changed since the beginning, when the block has come to its
    end; also when that was an error, as far as it goes: nothing that is changed later is taken for ours."""
    try:
        yield
    except UserError:
        with contextlib.suppress(UserError):  # what went wrong first is what is worth telling
            _note_changes(life, on, "noted")
        raise
    _note_changes(life, on, "settle")


def _note_changes(life: Lifecycle, on: OnMachines, function: str) -> None:
    def note(machine: Machine) -> None:
        life.added.put_changed(machine.name, on.changed(machine))
        on.call([machine], "", function, "noting what has changed")

    with on.connected():
        _each(life.cluster.machines, note)


def as_found(said: str, mark: str) -> dict[str, Entry | None]:
    """Of what `finish` says: what the names that changed are by now, with their checksums; raises ValueError."""
    found = _facts("it", said, mark)
    if not found.complete:
        raise FactsError("it did not come to its end")
    lines = [line for line in found.text("names").split("\n") if line]
    if odd := [line for line in lines if not line.startswith("/")]:
        raise FactsError(f"that is no name: {odd[0]}")
    names = [facts.path_of(line) for line in lines]
    tree, sums = (found.tree, found.sums) if names else ({}, {})
    return {name: tree[name]._replace(md5=sums.get(name, "")) if name in tree else None for name in names}


def _facts(machine: str, said: str, mark: str) -> Facts:
    outer = new_mark()  # nothing that a machine says ends what it says
    lines = [f"{line}\n" for line in said.split("\n") if line]  # sections come in several pieces
    (found,) = facts.parse([f"{outer} machine {machine}\n", *lines, f"{outer} over\n"], outer, mark)
    return found


def _each(machines: Sequence[Machine], do: Callable[[Machine], _Result]) -> list[_Result]:
    """Do it on all of them, some at a time; raises the first error when all have ended."""
    with threads(_LANES) as pool:
        futures = [pool.submit(do, machine) for machine in machines]
    failed = [(one.name, error) for one, future in zip(machines, futures, strict=True) if (error := future.exception())]
    for _, error in failed:
        if len(failed) > 1 and isinstance(error, UserError):
            error.message += f"; it failed on {', '.join(name for name, _ in failed[1:])}, too"
        raise error
    return [future.result() for future in futures]
