"""What `benchmarks/torture.py` is made of: what is done, what must hold afterwards, what is fed to parsers."""
