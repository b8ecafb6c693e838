"""Checks of the PAM stack and of this module's options."""
