"""A picture of the cluster's networks: the host's end of the bridge, all machines, every address and MAC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pipeline.description import Cluster, Interface, Machine, Network
from pipeline.report.markup import Markup, element, join

State = Literal["passed", "failed", "unknown"]

_WIDTH = 960
_BOX = (216, 64)  # width and height of a machine
_GAP = 18
_EDGE = 8  # where the networks begin on the left
_ROW = 4  # nodes side by side
_WIRE = 50  # length of a wire: two lines of text stand beside it
_SIGNS: Mapping[State, str] = {"passed": "✓", "failed": "✗", "unknown": "?"}


def picture(cluster: Cluster, states: Mapping[str, State]) -> Markup:
    """The whole picture as SVG; colours come from the page's style sheet."""
    inside = cluster.nodes[0].interfaces[0].network if cluster.nodes else cluster.networks[-1].name
    middle = _WIDTH / 2
    parts: list[Markup] = []
    y = 4.0
    for network in cluster.networks:
        if network.name == inside:
            continue
        if network.host_address:
            parts.append(_box(middle, y, 44, "host", f"bridge end {network.host_address}", "", "host"))
            y += 44
            parts.append(_wire(middle, y, 24))
            y += 24
        parts.append(_bus(y, network))
        y += _wire_to(parts, middle, y, _interface(cluster.head, network))
    parts.append(_machine(cluster.head, middle, y, states))
    y += _BOX[1]
    y += _wire_to(parts, middle, y, _interface(cluster.head, cluster.network(inside)))
    rows = [cluster.nodes[start : start + _ROW] for start in range(0, len(cluster.nodes), _ROW)]
    first = y
    for row in rows or [()]:
        parts.append(_bus(y, cluster.network(inside), labelled=y == first))
        if y > first:
            parts.append(element("path", class_="bus", d=f"M{_EDGE} {first:g}V{y:g}"))
        start = middle - (len(row) - 1) * (_BOX[0] + _GAP) / 2
        for column, node in enumerate(row):
            x = start + column * (_BOX[0] + _GAP)
            height = _wire_to(parts, x, y, _interface(node, cluster.network(inside)), -_BOX[0] / 4)
            parts.append(_machine(node, x, y + height, states))
        y += _WIRE + _BOX[1] + 30 if row else 10
    names = ", ".join(machine.name for machine in cluster.machines)
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {_WIDTH} {y - 20:.0f}",
        role="img",
        class_="network",
        aria_label=f"Networks of cluster {cluster.name}: {names}",
    )


def _interface(machine: Machine, network: Network) -> Interface | None:
    return next((item for item in machine.interfaces if item.network == network.name), None)


def _machine(machine: Machine, x: float, y: float, states: Mapping[str, State]) -> Markup:
    state = states.get(machine.name, "unknown")
    role = f"{machine.membership} node"
    plural = "" if machine.cpus == 1 else "s"
    what = f"{machine.cpus} CPU{plural} · {machine.memory_mib} MiB · disk {machine.disk_mib} MiB"
    return _box(x, y, _BOX[1], f"{_SIGNS[state]} {machine.name}", role, what, state)


def _box(x: float, y: float, height: int, name: str, second: str, third: str, style: str) -> Markup:
    width = _BOX[0]
    lines = [element("text", name, x=x, y=y + 19, class_="name")]
    lines += [
        element("text", line, x=x, y=y + 36 + 16 * number, class_="note")
        for number, line in enumerate((second, third))
        if line
    ]
    shape = element("rect", x=x - width / 2, y=y, width=width, height=height, rx=8)
    return element("g", shape, *lines, class_=f"box {style}")


def _bus(y: float, network: Network, *, labelled: bool = True) -> Markup:
    line = element("path", class_="bus", d=f"M{_EDGE} {y:g}H{_WIDTH - _EDGE}")
    label = element("text", f"{network.name} network  {network.cidr}", x=_EDGE + 2, y=y - 8, class_="net")
    return join([line, label] if labelled else [line])


def _wire(x: float, y: float, length: float) -> Markup:
    return element("path", class_="wire", d=f"M{x:g} {y:g}v{length:g}")


def _wire_to(parts: list[Markup], x: float, y: float, interface: Interface | None, aside: float = 0) -> float:
    """Draw a wire downwards, `aside` of a box's middle, with its interface beside it; its length."""
    if interface is not None:
        x += aside
        parts.append(_wire(x, y, _WIRE))
        parts.append(
            element(
                "text", f"{interface.name}  {interface.address}/{interface.prefix}", x=x + 8, y=y + 21, class_="address"
            )
        )
        parts.append(element("text", interface.mac, x=x + 8, y=y + 37, class_="mac"))
    return _WIRE
