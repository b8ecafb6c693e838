"""Checks of this host, and of the ways out of a job."""
