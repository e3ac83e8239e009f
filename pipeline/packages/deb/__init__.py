"""Debian and its kin: packages of dpkg, resolved and installed by apt."""
