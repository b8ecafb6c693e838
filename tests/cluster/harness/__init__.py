"""The real cluster: hosts as namespaces, daemons, logins, jobs."""
