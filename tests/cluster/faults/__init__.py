"""Faults as data: what is brought about on a node, and what comes of it for each user."""
