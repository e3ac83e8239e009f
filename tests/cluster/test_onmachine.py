"""What is done on machines that run is called, and what they say of it is understood or refused."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.cluster.added import Notes
from pipeline.cluster.onmachine import OnMachines, as_found, noting_changes
from pipeline.description import Machine
from pipeline.errors import ClusterError
from pipeline.guests import flavours
from pipeline.packages.families import FAMILIES
from tests.checks.samples import cluster


@pytest.mark.parametrize(
    "said",
    [
        "",
        "M end\n",
        "M names\n/etc/a\nM end\n",
        "M names\nother words\nM tree\nM sums\nM end\n",
        "M names\n/etc/a\nM tree\ngarbage\nM sums\nM end\n",
        "M names\n/etc/a\nM tree\nM sums\n- /a\\x41\udcff\nM end\n",
        "M names\n/etc/a\nM machine x\nM end\n",
        f"M names\n/etc/a\nM tree\nf 644 0 0 {'9' * 5000} 0 0 1 1:1 /etc/a\nM sums\nM end\n",
    ],
)
def test_what_is_no_list_of_changes_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        as_found(said, "M")


def test_changes_are_noted_when_it_breaks_off_too(tmp_path: Path) -> None:
    whole = cluster()
    life: Any = SimpleNamespace(cluster=whole, added=Notes(tmp_path))
    done: list[tuple[str, str]] = []

    def changed(machine: Machine) -> dict[str, None]:
        if machine.name == "node1":
            raise ClusterError("node1 does not answer")
        return {"etc/a": None}

    on: Any = SimpleNamespace(
        connected=contextlib.nullcontext,
        changed=changed,
        call=lambda machines, _opkg, function, _what: done.append((machines[0].name, function)),
    )
    with pytest.raises(ClusterError, match="the first error"), noting_changes(life, on):
        raise ClusterError("the first error")
    assert sorted(done) == [("node2", "noted"), ("oscarhead", "noted")]
    assert life.added.changed("oscarhead") == life.added.changed("node2") == {"etc/a": None}
    done.clear()
    with pytest.raises(ClusterError, match="node1 does not answer"), noting_changes(life, on):
        pass
    assert sorted(done) == [("node2", "settle"), ("oscarhead", "settle")]


def test_a_script_for_removal_that_fails_comes_anew_by_an_installation(tmp_path: Path) -> None:
    whole = cluster()
    scripts = []

    def run(_machine: str, script: str, **_more: object) -> tuple[int, str, str]:
        scripts.append(script)
        return 1, "", ""

    shell: Any = SimpleNamespace(cluster=whole, run=run)
    on = OnMachines(shell, FAMILIES["deb"], flavours.of(whole.guest), tmp_path, lambda _phase: None, 1)
    for leaving, hint in ((True, "doit opkg install debian12 tool brings today's"), (False, "the same command")):
        with pytest.raises(ClusterError) as caught:
            list(on.phase([whole.head], "tool", "api-pre-uninstall", leaving=leaving))
        assert hint in caught.value.hint
    with pytest.raises(ClusterError):
        list(on.phase(whole.nodes[:1], "tool", "client-pre-uninstall", leaving=True))
    end = "\nalone || exit\n{ take_home && last_phase client-pre-uninstall && take_home; } 9>&-\n"
    assert scripts[-1].endswith(end), "no earlier one's"


def test_what_stays_is_told_in_words(tmp_path: Path) -> None:
    whole = cluster()

    def run(_machine: str, script: str, **_more: object) -> tuple[int, str, str]:
        (mark,) = re.findall(r"^mark=(.*)$", script, re.MULTILINE)
        return 0, f"said\n{mark} changed /etc/a\u2028b\n{mark} kept /etc/c\n{mark} odd /etc/d\n", ""

    shell: Any = SimpleNamespace(cluster=whole, run=run)
    on = OnMachines(shell, FAMILIES["deb"], flavours.of(whole.guest), tmp_path, lambda _phase: None, 1)
    assert list(on.take_away([whole.head], "tool", "unfurnish", "files")) == [
        ("oscarhead", "OPKG tool: /etc/a\u2028b was changed since and stays"),
        ("oscarhead", "OPKG tool: /etc/c stays: another OPKG has it, too"),
        ("oscarhead", "OPKG tool: /etc/d odd"),
    ]
