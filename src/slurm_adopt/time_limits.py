"""What a login waits for, and for how long at most: one row for each wait.

The rows of Slurm's side are in slurm/time_limits.py. A test compares all of them with the page
docs/reference/time-limits.md, and sees that no other module has limits of its own.

A stepd may take 4.1 s to say that it did not adopt: so much silence is no sign. Its last end comes
before that of LoginGraceTime (120 s), which a client that is silent has as well.
"""

from __future__ import annotations

from .slurm.time_limits import Limit

# fmt: off
#                         silence last   what is waited for
# the user's jobs, and adopting
COUNTED           = Limit(5.0,    30.0,  "all stepds, when the jobs are counted; the last end is "
                                         "for all that a login tries")
ADOPTED           = Limit(5.0,    100.0, "each answer of the stepd that adopts; the last end is "
                                         "for all that a login tries")
STARTED           = Limit(5.0,    10.0,  "a stepd that is making its step ready", "wait_for_job")
SET_UP            = Limit(0.0,    0.0,   "a job that is being set up", "wait_for_job")
SOURCE            = Limit(0.0,    0.0,   "the source host", "callerid_timeout")
SETTLED           = Limit(0.5,    5.0,   "a process that a silent stepd may be moving to stay "
                                         "where it is")
# this host
NAMED             = Limit(2.0,    5.0,   "the DNS to say what this host is called, where nothing "
                                         "else tells the node name")
LISTENS           = Limit(0.0,    1.0,   "the kernel's tables to say whether a process listens, "
                                         "before Linux 5.6")
RESTARTED         = Limit(0.0,    3.0,   "an sshd that starts again (SIGHUP) to listen, where "
                                         "nothing else tells that it is the one")
LOGGED            = Limit(0.0,    0.2,   "a syslog daemon that hangs")
ENDED             = Limit(0.5,    5.0,   "a killed child to be gone; silence: it wants no CPU")
# the watcher of a login that is in the job before it is done
WATCHER_STARTED   = Limit(0.0,    30.0,  "the watcher to be started")
WATCHED           = Limit(0.0,    600.0, "a watched login to be done")
WATCHED_IN_KERNEL = Limit(20.0,   0.0,   "a watched login that waits in the kernel")
WATCHED_ENDED     = Limit(0.0,    10.0,  "a watched login to be gone once it is killed")
# what a session gets from its job
STEP_READ         = Limit(0.5,    4.0,   "the stepd of another step of the job, and a child that "
                                         "reads its processes")
STEPS_READ        = Limit(0.0,    10.0,  "all steps of the job that are asked")
JOB_NAMES         = Limit(0.0,    2.0,   "the names of a user's jobs to be looked up, where the "
                                         "user is asked for one; then no further job's is")
REMOVED_IN_LOGIN  = Limit(0.0,    0.2,   "what other jobs have left in /run to be removed, in a "
                                         "login")
# the Epilog
CONFIGURED        = Limit(0.0,    2.0,   "cgroup.conf to be read, in an Epilog")
REMOVED_OTHERS    = Limit(0.0,    1.0,   "what other jobs have left in /run to be removed, in an "
                                         "Epilog")
REMOVED_OWN       = Limit(0.0,    60.0,  "what the job has left in /run to be removed, in its "
                                         "Epilog")
REMOVING_ENDED    = Limit(0.0,    0.3,   "a child that removes to be done with its last call, "
                                         "after that")
STEP_ENDED        = Limit(0.0,    10.0,  "what a job has left in its extern step to be ended")
# fmt: on
