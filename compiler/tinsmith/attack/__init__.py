"""Attacks on a protected project, on what its non-secure image gives away: what a mode is worth."""
