"""What the renderings of domains as XML share."""

from __future__ import annotations

import xml.etree.ElementTree as ET


def text(parent: ET.Element, tag: str, content: str, **attributes: str) -> None:
    """Add an element that holds text."""
    ET.SubElement(parent, tag, attributes).text = content


def child(root: ET.Element, path: str) -> ET.Element:
    """The element at a path; raises ValueError where there is none."""
    element = root.find(path)
    if element is None:
        raise ValueError(f"no domain definition of ours: {path} is missing")
    return element
