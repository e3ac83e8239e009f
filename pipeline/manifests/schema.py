"""JSON Schemas of the manifests, for editors: `#:schema ../schema/cluster.json` in a recipe names its own.

python -m pipeline.manifests.schema     writes recipes/schema/ anew
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union

from pydantic import BaseModel, Field, TypeAdapter

from pipeline.manifests import meaning
from pipeline.manifests.cluster import Cluster
from pipeline.manifests.distro import DISTROS, Distro
from pipeline.manifests.host import Host
from pipeline.manifests.loader import Manifest, Table
from pipeline.manifests.netboot import Netboot

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_KINDS: tuple[type[Manifest], ...] = (Cluster, Distro, Host, Netboot)


def schemas() -> dict[str, str]:
    """File name -> text of the schema."""
    _describe()
    return {f"{kind.__name__.lower()}.json": json.dumps(_schema(kind), indent=2) + "\n" for kind in _KINDS}


def _schema(kind: type[Manifest]) -> dict[str, Any]:
    if kind is Distro:  # one of several, by its family
        union: Any = Annotated[Union[*DISTROS.values()], Field(discriminator="family")]
        adapter: TypeAdapter[Any] = TypeAdapter(union)
        schema = _without_defaults(adapter.json_schema())
        for model in DISTROS.values():
            _without_name(schema["$defs"][model.__name__])
        return {"$schema": _DIALECT, **schema}
    schema = _without_defaults(kind.model_json_schema())
    _without_name(schema)
    if kind is Cluster:  # what it needs may stand in the cluster that it extends
        schema["anyOf"] = [{"required": schema.pop("required")}, {"required": ["extends"]}]
    return {"$schema": _DIALECT, **schema}


def _describe() -> None:
    """Tell pydantic what fields mean."""
    models = [model for base in (Table, Manifest) for model in _derived(base)]
    for model in models:
        for name, field in model.model_fields.items():
            field.description = meaning.of(model, name) or None
    for model in models:  # those that others are made of come first
        model.model_rebuild(force=True)


def _derived(base: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for model in base.__subclasses__():
        yield model
        yield from _derived(model)


def _without_name(schema: dict[str, Any]) -> None:
    """It is the file's."""
    del schema["properties"]["name"]
    schema["required"].remove("name")


def _without_defaults(schema: Any) -> Any:
    """Defaults are what a model holds (512), not what its file would say ("512M"): an editor must not offer them."""
    if isinstance(schema, dict):
        return {key: _without_defaults(value) for key, value in schema.items() if key != "default"}
    return [_without_defaults(item) for item in schema] if isinstance(schema, list) else schema


def write(folder: Path) -> None:
    """Write all schemas into that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in schemas().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    write(Path(__file__).parent.parent.parent / "recipes" / "schema")
