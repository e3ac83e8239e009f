"""What a try does on which machine follows from what has changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.checks.result import Result
from pipeline.cluster.tried import Layer, Share, Tried, What
from pipeline.cluster.trying import _changed, _done, _require_passed, _steps
from pipeline.errors import ClusterError
from pipeline.guests import debian
from tests.checks.samples import cluster

AT_BOOT = debian.GUEST.at_boot


def test_an_opkg_has_changed_when_one_of_its_files_is_another() -> None:
    had = Layer({"opkgs/a/config.xml": "1", "opkgs/b/scripts/x": "1", "opkgs/c/files/common/x": "1"}, {})
    now = Layer({"opkgs/a/config.xml": "1", "opkgs/b/scripts/x": "2", "opkgs/d/config.xml": "1"}, {})
    share = Share(Layer({}, {}), had)
    assert _changed(Tried({"head": share}), {"head": now}) == What(("b", "c", "d"))
    assert not _changed(Tried({"head": share}), {"head": had})
    again = Tried({"head": share}, pending=What(("a",)))
    assert _changed(again, {"head": had}) == What(("a",)), "its try has had no good end"


def test_a_package_has_changed_when_it_has_another_version() -> None:
    share = Share(Layer({}, {}), Layer({}, {}, {"probe": "1.0", "same": "1"}))
    now = Layer({}, {}, {"probe": "1.1", "same": "1", "new": "1"})
    assert _changed(Tried({"head": share}), {"head": now}) == What(packages=("new", "probe"))
    assert str(What(("c3", "sis"), ("probe",))) == "OPKG c3, sis, package probe"


def load(*services: str) -> Any:
    return SimpleNamespace(target=SimpleNamespace(membership="compute"), services=frozenset(services))


@pytest.mark.parametrize(
    ("path", "services", "steps"),
    [
        ("etc/tool.conf", ("toold",), ["bring_tried compute", "heed_tried compute"]),
        ("etc/tool.conf", (), ["bring_tried compute"]),
        ("usr/lib/oscar/packages/tool/testing/test_root", ("toold",), ["bring_tried compute"]),
        (
            "etc/systemd/system/toold.service",
            ("toold",),
            ["begin_starting", "bring_tried compute", "start_tried", "heed_tried compute"],
        ),
    ],
)
def test_services_heed_what_they_could_read(path: str, services: tuple[str, ...], steps: list[str]) -> None:
    assert _steps(load(*services), {path}, AT_BOOT) == steps


def test_what_machines_say_is_told_in_a_line_a_kind() -> None:
    said = [("head", "brought /etc/a"), ("node1", "restarted toold"), ("head", "brought /etc/b")]
    assert list(_done(said)) == [("head", "files brought: /etc/a, /etc/b"), ("node1", "restarted: toold")]


def test_a_check_that_does_not_pass_is_an_error_with_its_log(tmp_path: Any) -> None:
    life: Any = SimpleNamespace(cluster=cluster(), run_dir=tmp_path)
    good, bad = (
        Result("services", "node1", "passed"),
        Result("opkg c3 test_root", "head", "failed", "no", "what it said"),
    )
    _require_passed(life, [good])
    with pytest.raises(ClusterError, match="tried in place, not installed: 1 of 2 checks did not pass") as caught:
        _require_passed(life, [good, bad])
    assert caught.value.status == 1 and caught.value.log is not None
    assert "what it said" in caught.value.log.read_text()
    assert "doit cluster:" in caught.value.hint
