"""Verification of any cluster: what is looked at, and what it says.

A check is a pure function from facts to problems.  Facts are collected in one round over ssh (`collect`), judged
here (`machine`, `files`) and told as frozen results (`result`); `verify` does all of it, and runs the OPKGs' own
tests (`opkgs`) meanwhile.
"""
