"""What stands in `recipes/`, as typed and checked data: one module a kind.

`recipes.load()` is the way in.  TOML files become pydantic models (`distro`, `host`, `netboot`, `cluster`), OPKG
folders become `opkg.Opkg`, and `describing.describe()` turns a cluster manifest into the plain description that the
rest of the pipeline works with.  A mistake in a file is a `ManifestError` that names file, line and field.
"""
