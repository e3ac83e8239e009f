"""What the renderings of domains as XML share."""

from __future__ import annotations

import xml.etree.ElementTree as ET


def text(parent: ET.Element, tag: str, content: str, **attributes: str) -> None:
    """Add an element that holds text."""
    ET.SubElement(parent, tag, attributes).text = content
