"""The exported schemas are those of the models, and every recipe names its own."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.manifests.cluster import Cluster
from pipeline.manifests.schema import schemas, write

RECIPES = Path(__file__).parents[2] / "recipes"


def test_exported_schemas_are_current() -> None:
    found = {path.name: path.read_text() for path in (RECIPES / "schema").iterdir()}
    assert found == schemas(), "run: python -m pipeline.manifests.schema"


def test_schemas_are_written_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "schema")
    assert {path.name for path in (tmp_path / "schema").iterdir()} == set(schemas())


def test_a_schema_tells_what_a_file_may_say() -> None:
    schema = json.loads(schemas()["cluster.json"])
    assert set(schema["properties"]) == set(Cluster.model_fields) - {"name"}
    assert schema["additionalProperties"] is False
    assert schema["anyOf"] == [{"required": ["distro"]}, {"required": ["extends"]}]
    assert all({"description", "$ref"} & set(field) for field in schema["properties"].values())
    assert schema["$defs"]["Head"]["properties"]["memory"]["pattern"] == "^[0-9]{1,9}[MGT]$"


def test_every_recipe_names_its_schema() -> None:
    kinds = {"clusters": "cluster", "distros": "distro", "hosts": "host", "netboot": "netboot"}
    for folder, kind in kinds.items():
        for file in (RECIPES / folder).glob("*.toml"):
            assert file.read_text().startswith(f"#:schema ../schema/{kind}.json\n"), file
