"""Commands of doit besides its own: one module each, named in pyproject.toml."""
