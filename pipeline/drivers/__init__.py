"""Engines that run machines: the domain model, what each engine makes of it, and the notations of it."""
