"""This host as the engine sees it: jobs, adoption, the ssh connection, the PAM stack."""
