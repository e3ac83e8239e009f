"""What fields of manifests mean, for mistakes and schemas."""

from __future__ import annotations

from pydantic import BaseModel

from pipeline.manifests import meaning
from pipeline.manifests.cluster import Cluster


class Above(BaseModel):
    size: int
    """How large it is."""

    plain: int
    other: int = 1
    """Two

    lines.
    """


class Below(Above):
    size: int = 3


def test_the_text_below_a_field_counts_also_that_of_a_model_above() -> None:
    assert meaning.of(Above, "size") == meaning.of(Below, "size") == "How large it is."
    assert meaning.of(Below, "other") == "Two\n\nlines."
    assert meaning.of(Below, "plain") == meaning.of(Below, "nothing") == ""


def test_real_ones() -> None:
    assert meaning.of(Cluster, "distro").startswith("The name of")
