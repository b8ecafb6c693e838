"""Checks of what runs this module: pam_python, pam_exec, their Python, the files of root's."""
