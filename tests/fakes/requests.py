"""The numbers of Slurm's messages, by the names that its headers have.

Apart from the package's own: a wrong number there is seen. Stand-ins inside hosts import this, so
it needs nothing but itself.
"""

from __future__ import annotations

# Asked of a stepd
REQUEST_STATE = 5
REQUEST_STEP_LIST_PIDS = 15
REQUEST_STEP_UID = 20
REQUEST_ADD_EXTERN_PID = 22
REQUEST_X11_DISPLAY = 23
REQUEST_GET_NS_FD = 26
REQUEST_GET_NS_FDS = 28

# Said by a slurmd
RESPONSE_JOB_ID = 2014
RESPONSE_NETWORK_CALLERID = 5036
RESPONSE_SLURM_RC = 8001
