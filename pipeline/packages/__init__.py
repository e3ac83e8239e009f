"""Package families: resolve -> lock -> fetch -> assemble, one folder a family.

Only a family's `index` and `lock` see a repository's metadata.  A lock (`lock.py`, the same for all) names every
package with its version, its path on the mirror, its size and SHA-256; `fetch` brings exactly those into the pool; what
assembles them needs no network.  `families.py` says what makes each of these; code of one family is in no key of
another.
"""
