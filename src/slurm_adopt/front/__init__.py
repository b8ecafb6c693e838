"""Fronts: what speaks PAM. pam_python's handle, and a site's words for a user who is refused."""
