"""Tests of the packages: each is built, installed into fresh roots, used and removed."""
