"""Small virtual machines with Debian's own kernel and systemd: cgroup v2 as a site has it."""
