"""Package families: resolve -> lock -> fetch, one module a family.

Only `index` and `lock` see a repository's metadata.  A lock names every package with its version, its path on the
mirror, its size and SHA-256; `fetch` brings exactly those; whatever assembles them needs no network.
"""
