"""Tests of units: a table each, no cluster."""
