"""The plan of a checkout, remembered for as long as nothing that it was made from changes.

Planning reads and validates everything, which takes a good part of a second; a run with nothing to do shall not.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import checkout, naming
from pipeline.allocation.ledger import Ledger
from pipeline.errors import UserError
from pipeline.files import write_whole
from pipeline.signature import Signature, below, is_settled
from pipeline.signature import of as signature_of
from pipeline.step import Plan

if TYPE_CHECKING:
    from pipeline.manifests.recipes import Recipes


#: What is begun when a plan has to be made, to go on beside that: see `beside`.
_beside: list[Callable[[], None]] = []


def beside(begin: Callable[[], None]) -> None:
    """Have that called before a plan is made: most likely something has changed then, and will be built."""
    _beside.append(begin)


def load_plan(recipes: Path, artifacts: Path, own: Path) -> Plan:
    """The plan for a recipes folder; `own` is where its checkout keeps what is its own."""
    cache = own / "cache" / "plan.pickle"
    ledger = Ledger(artifacts)
    remembered = _remembered(recipes, cache, ledger)
    if remembered is not None:
        return remembered
    for begin in _beside:
        begin()
    from pipeline import plan as planning
    from pipeline.manifests.recipes import load

    began = time.time_ns()
    before = _signature(recipes, ())
    read = load(recipes)
    lots: Mapping[str, int] | UserError
    try:
        lots = _lots(read, ledger, artifacts, own)
    except UserError as error:  # which concerns those alone that share a host
        lots = error
    plan = planning.make(read, lots)
    signed = _signature(recipes, plan.reads)
    # edited meanwhile, or so shortly before that it could not be seen if it were edited again: not worth remembering
    settled = before == signed[: len(before)] and is_settled((number for _, number in signed), began)
    if settled and not plan.broken:  # which may be mended in a place that a plan without that recipe does not read
        with contextlib.suppress(OSError, UserError):  # somebody else's folder: then planning takes its time
            write_whole(cache, pickle.dumps((signed, ledger.content(), plan)), mode=0o600)
    return plan


def _lots(recipes: Recipes, ledger: Ledger, artifacts: Path, own: Path) -> dict[str, int]:
    """The lots of the clusters that share a host, from the ledger; see `allocation`."""
    here = own.relative_to(artifacts)

    def is_gone(key: str) -> bool:
        """Whether nobody will start that cluster again: it has neither a recipe nor a run folder on a shared host."""
        place = (artifacts / key).parent
        if (place / "run" / Path(key).name / "container").exists():
            return False
        if place == own:
            return Path(key).name not in recipes.names("clusters")
        return checkout.is_lost(place) or not place.exists()

    wanted: dict[str, dict[str, str]] = {}
    for host, names in recipes.sharing().items():
        # a testbed is its checkout's, whatever others call theirs
        where = host if "://" in host else str(here / "run" / naming.testbed(host))
        wanted[where] = {str(here / name): name for name in names}
    given = ledger.give(wanted, is_gone)
    return {name: given[host][key] for host, names in wanted.items() for key, name in names.items()}


def _remembered(recipes: Path, cache: Path, ledger: Ledger) -> Plan | None:
    try:
        status = cache.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return None  # a pickle is a program: nobody else's is run
        signed, given, plan = pickle.loads(cache.read_bytes())
        same = given == ledger.content() and signed == _signature(recipes, plan.reads)
        return plan if isinstance(plan, Plan) and same else None
    except Exception:  # any damage to a cache, of whatever kind, only means: plan again
        return None


def _signature(recipes: Path, others: Iterable[str]) -> list[tuple[str, Signature]]:
    """Signatures of all that a plan is made from: the recipes, the modules that plan, and what lies elsewhere."""

    def is_read(link: Path) -> bool:
        """A link in a root to be is one of that root: what it leads to here is nothing of ours."""
        from pipeline import kept

        return not kept.in_root(str(link.relative_to(recipes)))

    modules = below(Path(__file__).resolve().parent, left_out=("__pycache__",))
    return [(sys.version, ()), *modules, *below(recipes, is_read), *((path, signature_of(path)) for path in others)]
