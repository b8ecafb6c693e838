"""Peers, clocks and handles that stand in for real ones, for tests of units."""
