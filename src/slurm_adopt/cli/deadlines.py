"""What commands wait for, in seconds at most; the only module of the commands with such numbers.

These are apart from what a login waits for (slurm_adopt/time_limits.py).
"""

from __future__ import annotations

# fmt: off
QUICK  = 4.0   # a check that reads a few files, on a node whose cores are all in use
SLOW   = 10.0  # a check that asks other processes or hosts
SHARED = 3.0   # what several checks need
SITE   = 7.0   # where this host's Slurm is: the DNS may be asked, for up to 5 s
VERSION = 2.0  # slurmd to say its version
STEPDS = 6.0   # all stepds to say whose steps they are; a stopped one is given up before
SILENT = 3.0   # each answer of them
STARTS = 60.0  # an extern step to be ready; without an InitScript that takes 30 ms
AT_ONCE = 0.5  # all stepds, or a credential, where it has to be quick
CREDENTIAL = 2.0  # a credential to be made, and to be checked
NODES  = 20.0  # all other nodes' slurmds
AGAIN  = 0.3   # between two looks at what may just be changing
JOURNAL = 120.0  # journalctl to print what is asked for
BRIDGE = 5.0   # a trial of pam_python
SSHD   = 2.0   # sshd to say its settings
PAM_START = 2.0  # libpam, to read the files of a service and load their modules
WHOLE  = 45.0  # all checks: slurmd ends a HealthCheckProgram after 60 s
BRISK  = 10.0  # all checks, where it has to be quick
ENDS   = 0.1   # a process that is just ending, or a login, until it has settled
EVERY  = 2.0   # sessions --watch: from one look to the next
TIMER  = 30.0  # systemctl or at to take, or give up, what ends a trial
IMAGE  = 30.0  # login_image.py to make the login image
TURN   = 60.0  # the end of a trial to have its turn, while another install runs
READ   = 2.0   # what users' processes can hold up: their stat and environ
# fmt: on
