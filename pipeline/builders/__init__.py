"""Builders: one module an artifact kind, each with functions that take a Job and fill its output folder."""
