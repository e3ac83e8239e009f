"""What kind of system runs in a machine: one module a flavour; and kernels and ramdisks, which all have.

A distribution's recipe names its flavour.  The plan asks it, and its answers are parameters of what is made with them:
no builder imports one, so that keys hold what a flavour says and not its code.
"""
