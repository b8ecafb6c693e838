"""System calls of a login that fail in turn: what is tried, and what has to hold whatever fails.

Invariant: root gets in wherever the module's own code runs. A user without a job never gets in. A
user with a job is in it by the kernel's word, or refused. Every login ends in a bounded time.
"""
