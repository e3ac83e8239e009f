"""Growth: many nodes in one recipe, and many recipes.

One cluster of 64 nodes, one of which is changed: the run that plans and rewrites its definition, and one with nothing
to do.  And a run with nothing to do for one cluster among ten, against the same where it is the only one.  All is
processor time, held against a Python that imports doit and no more.
"""

from __future__ import annotations

from benchmarks.checkout import CLUSTER, Checkout, copy
from benchmarks.measure import Row, bare_doit, machine, report, say, spread, start
from pipeline.errors import UserError

_NODES, _CLUSTERS, _RUNS = 64, 10, 5
_GOAL, _SHARE_GOAL = 0.6, 1.3
_MANIFEST = f"""
[compute]
count = {_NODES}
"""
_DEFINITIONS = f"definition:{CLUSTER}/*"


def main() -> None:
    before = machine()
    bare: list[float] = []
    with copy(_MANIFEST) as made:
        say(f"making definitions of {_NODES} nodes")
        made.doit(_DEFINITIONS)
        changed = [_after_change(made, number, bare) for number in range(_RUNS)]
        idle = _idle(made, bare)
        recipe = made.top / "recipes" / "clusters" / f"{CLUSTER}.toml"
        recipe.write_text('extends = "debian12"\n')
        others = [recipe.with_name(f"{CLUSTER}{number}.toml") for number in range(1, _CLUSTERS)]
        for other in recipe.parent.glob("*.toml"):
            if other.stem not in (CLUSTER, "debian12"):
                other.unlink()
        say("one recipe")
        made.doit(_DEFINITIONS)
        alone = _idle(made, bare)
        say(f"{_CLUSTERS} recipes")
        for other in others:
            other.write_text('extends = "debian12"\n')
        made.doit(_DEFINITIONS)
        among = _idle(made, bare)
    rows = [
        Row(f"one of {_NODES} nodes changed: plan, write it", min(changed), goal=_GOAL, detail=spread(changed)),
        Row(f"{_NODES} nodes, nothing to do", min(idle), goal=_GOAL, detail=spread(idle)),
        Row("one cluster alone, nothing to do", min(alone), detail=spread(alone)),
        Row(f"one of {_CLUSTERS} clusters, nothing to do", min(among), detail=spread(among)),
        Row(f"ratio of one of {_CLUSTERS} to one alone", min(among) / min(alone), "x", _SHARE_GOAL),
        Row(f"ratio of {_NODES} nodes to a bare doit", min(idle) / min(bare), "x"),
        Row(f"ratio of one of {_NODES} changed to a bare doit", min(changed) / min(bare), "x"),
    ]
    report("growth", f"Growth: {_NODES} nodes, {_CLUSTERS} clusters (processor time)", rows, before)


def _after_change(made: Checkout, number: int, bare: list[float]) -> float:
    """Processor time of the run after one node got other memory; just its definition may be written."""
    recipe = made.top / "recipes" / "clusters" / f"{CLUSTER}.toml"
    recipe.write_text(f'extends = "debian12"\n{_MANIFEST}[machines.node17]\nmemory = "{400 + number}M"\n')
    say("node17 changed")
    bare.append(bare_doit())
    run = made.doit(_DEFINITIONS)
    if list(run.built) != [f"definition:{CLUSTER}/node17"]:
        raise UserError(f"one node was changed, and there ran {', '.join(run.built) or 'nothing'}")
    return run.processor


def _idle(made: Checkout, bare: list[float]) -> list[float]:
    """Processor times of runs with nothing to do, and beside each that of a bare doit."""
    found = []
    for _ in range(_RUNS):
        bare.append(bare_doit())
        run = made.doit(_DEFINITIONS)
        if run.built:
            raise UserError(f"nothing was changed, and yet there ran {', '.join(run.built)}")
        found.append(run.processor)
    return found


if __name__ == "__main__":
    start(main)
