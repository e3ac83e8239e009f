"""Flavours of systems: each answers all that is asked, in a form that is data or shell."""

from __future__ import annotations

import re
import subprocess
import typing
from pathlib import Path

import pytest

from pipeline import keys
from pipeline import plan as planning
from pipeline.guests import fedora_core
from pipeline.guests.debian import GUEST
from pipeline.guests.flavours import GUESTS, Flavour
from pipeline.guests.guest import Guest
from pipeline.manifests.recipes import load
from tests.checks.samples import cluster

TOP = Path(__file__).resolve().parents[2]

#: As systemctl(1) lists units, with names padded to the longest, and words of people that tell no state.
UNITS = r"""munge.service                loaded    failed failed MUNGE authentication
-.mount                      not-found failed failed -.mount
dev-disk-a\x2db.device       loaded    failed dead   a failed disk
up.service                   loaded    active running what failed before"""


def test_a_recipe_can_name_all_that_there_are() -> None:
    assert set(typing.get_args(Flavour)) == set(GUESTS)


@pytest.mark.parametrize("guest", GUESTS.values(), ids=list(GUESTS))
class TestFlavour:
    def test_it_sets_up_every_card(self, guest: Guest) -> None:
        for machine in cluster().machines:
            text = "".join(guest.networks(cluster(), machine).values())
            assert all(f"{card.address}" in text and card.name in text for card in machine.interfaces)

    def test_its_signs_have_words(self, guest: Guest) -> None:
        for pattern, words in guest.fatal:
            assert re.compile(pattern).groups == words.count("{")

    def test_its_functions_are_shell(self, guest: Guest) -> None:
        script = f"{guest.services}\ntype failed_services tell_services > /dev/null"
        assert subprocess.run(["sh", "-c", script], check=False).returncode == 0


def test_sysvinit_services_that_did_not_start_or_died_have_failed(tmp_path: Path) -> None:
    scripts, level, subsys = (tmp_path / name for name in ("etc/rc.d/init.d", "etc/rc.d/rc3.d", "var/lock/subsys"))
    for folder in (scripts, level, subsys):
        folder.mkdir(parents=True)
    for name, status in (("up", 0), ("died", 2), ("never", 3), ("gone", 3), ("silent", 1), ("notes-nothing", 1)):
        says = "" if name == "silent" else f"case $1 in status) exit {status} ;; esac; exit 1"
        noted = {"notes-nothing": "", "gone": 'name=gone; touch "/var/lock/subsys/$name"'}.get(
            name, f"# /var/lock/subsys/{name}"
        )
        (scripts / name).write_text(f"#!/bin/sh\n{says}\n{noted}\n")
        (scripts / name).chmod(0o755)
        (level / f"S50{name}").symlink_to(scripts / name)
        if name not in ("never", "notes-nothing"):
            (subsys / name).touch()
    text = fedora_core.GUEST.services.replace("/sbin/runlevel", "echo N 3")
    for place in ("/etc/rc.d", "/var/lock"):
        text = text.replace(place, f"{tmp_path}{place}")
    text = text.replace(f'grep -Eq "{tmp_path}/var/lock', 'grep -Eq "/var/lock')
    done = subprocess.run(["sh", "-c", f"{text}\nfailed_services"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["failed died", "failed gone", "failed never"], done.stderr


def test_what_a_flavour_says_is_in_keys_and_its_code_is_not() -> None:
    plan = planning.make(load(TOP / "recipes"))
    for task, step in plan.artifacts.items():
        rooms = {path.name for path in keys._closure(step.maker.partition(":")[0]) if path.parent.name == "guests"}
        assert not rooms & {"flavours.py", *(f"{name}.py" for name in GUESTS)}, task
    head = "".join(plan.steps["disk:debian12/head"].params["networks"].values())
    assert all(card.address in head for card in plan.clusters["debian12"].head.interfaces)
    nodes = plan.records["verify:debian12"].params["networks"]
    assert all(
        node.interfaces[0].address in "".join(nodes[node.name].values()) for node in plan.clusters["debian12"].nodes
    )
    assert plan.records["verify:debian12"].params["services"] == GUEST.services


def test_networkd_is_told_the_gateway_where_there_is_one() -> None:
    files = GUEST.networks(cluster(), cluster().head)
    assert "Gateway=10.10.0.1" in files["/etc/systemd/network/10-eth0.network"]
    assert "Address=192.168.50.1/24" in files["/etc/systemd/network/10-eth1.network"]
    assert "Gateway" not in files["/etc/systemd/network/10-eth1.network"]
    assert set(GUEST.networks(cluster(), cluster().nodes[0])) == {"/etc/systemd/network/10-eth0.network"}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            UNITS,
            [
                "failed munge.service",
                "failed -.mount",
                r"failed dev-disk-a\x2db.device",
                "up.service                   loaded    active running what failed before",
            ],
        ),
        (
            "System has not been booted with systemd as init system (PID 1). Can't operate.",
            ["System has not been booted with systemd as init system (PID 1). Can't operate."],
        ),
        ("", []),
    ],
)
def test_failed_services_are_told_and_nothing_is_taken_for_one(tmp_path: Path, said: str, told: list[str]) -> None:
    (tmp_path / "said").write_text(f"{said}\n" if said else "")
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\nexec cat {tmp_path}/said\n")
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", f"{GUEST.services}\nfailed_services"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )
    assert done.stdout.splitlines() == told
