"""Guests: what machines run, as builders have to know it: its kernel, and ramdisks for it."""
