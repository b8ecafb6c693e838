"""Checks of pam_python, its interpreter, and the files that root runs."""
