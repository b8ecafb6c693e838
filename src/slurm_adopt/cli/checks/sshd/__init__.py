"""Checks of sshd: how it is configured, and what its process may do."""
