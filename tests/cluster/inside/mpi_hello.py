"""A program of MPI, for either library: each rank says who it is, rank 0 after hearing of all.

mpi_hello.py LIBRARY COMMUNICATOR: Open MPI's communicators are variables, MPICH's are numbers.
"""

import ctypes
import socket
import sys

LIBRARY, WORLD, INT, SUM = sys.argv[1:]

mpi = ctypes.CDLL(LIBRARY, ctypes.RTLD_GLOBAL)


def handle(text: str) -> ctypes.c_void_p:
    """Return what the library calls by this name: an address, or a number."""
    if text.startswith("0x"):
        return ctypes.c_void_p(int(text, 16))
    return ctypes.c_void_p(ctypes.addressof(ctypes.c_char.in_dll(mpi, text)))


mpi.MPI_Init(None, None)
rank, size, one, total = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(1), ctypes.c_int()
mpi.MPI_Comm_rank(handle(WORLD), ctypes.byref(rank))
mpi.MPI_Comm_size(handle(WORLD), ctypes.byref(size))
mpi.MPI_Allreduce(
    ctypes.byref(one), ctypes.byref(total), 1, handle(INT), handle(SUM), handle(WORLD)
)
mpi.MPI_Finalize()
sys.stdout.write(
    f"{rank.value} of {size.value} on {socket.gethostname()}, heard of {total.value}\n"
)
