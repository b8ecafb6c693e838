"""Which errors each system call may come back with: what its manual page names, and what fits.

The first of a row is the one that every such call is tried with. What is read for an import alone
is tried with one error each, in turn. A call that has no error is in NEVER.
"""

from __future__ import annotations

# System call -> errors. brk(2) has none: it returns where the end stays, which glibc takes for a
# failure if that is in front of what it has asked for.
ERRORS: dict[str, tuple[str, ...]] = {
    # Files
    "openat": ("EACCES", "ENOENT", "EMFILE", "ENOMEM", "EIO", "EINTR", "ETIMEDOUT"),
    "newfstatat": ("EACCES", "ENOENT", "ENOMEM", "EIO", "ELOOP"),
    "statx": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "access": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "faccessat": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "faccessat2": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "readlink": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "readlinkat": ("EACCES", "ENOENT", "ENOMEM", "EIO"),
    "read": ("EIO", "EINTR", "ENOMEM", "EISDIR"),
    "pread64": ("EIO", "EINTR", "ENOMEM"),
    "write": ("EIO", "ENOSPC", "EINTR", "EACCES", "ENOMEM"),
    "lseek": ("EINVAL", "ESPIPE"),
    "close": ("EIO", "EINTR", "ENOSPC"),
    "getdents64": ("EIO", "ENOENT", "ENOMEM"),
    "fcntl": ("EINVAL", "ENOMEM"),
    "ioctl": ("EIO", "EINVAL"),
    "fstatfs": ("EIO", "ENOMEM", "EINTR"),
    "statfs": ("EIO", "ENOMEM", "EINTR", "EACCES"),
    "mkdir": ("EACCES", "ENOSPC", "EROFS", "ENOMEM"),
    "mkdirat": ("EACCES", "ENOSPC", "EROFS", "ENOMEM"),
    "unlink": ("EACCES", "EIO", "EROFS", "ENOENT"),
    "unlinkat": ("EACCES", "EIO", "EROFS", "ENOENT"),
    "rename": ("EACCES", "EIO", "ENOSPC", "EROFS"),
    "chmod": ("EPERM", "EIO", "EROFS"),
    "fchmod": ("EPERM", "EIO", "EROFS"),
    "fchown": ("EPERM", "EIO", "EROFS"),
    "fchownat": ("EPERM", "EIO", "EROFS"),
    "rmdir": ("EACCES", "EIO", "EROFS", "ENOTEMPTY"),
    "fchmodat": ("EPERM", "EIO", "EROFS"),
    "dup": ("EMFILE", "EINTR"),
    "dup2": ("EMFILE", "EINTR"),
    "pipe2": ("EMFILE", "ENFILE"),
    "chdir": ("EACCES", "ENOENT", "EIO"),
    "getcwd": ("ENOENT", "EACCES", "ENOMEM"),
    # Sockets
    "socket": ("EMFILE", "ENFILE", "EACCES", "ENOMEM", "ENOBUFS"),
    "connect": ("ECONNREFUSED", "EACCES", "EAGAIN", "EINTR", "ETIMEDOUT", "ENOENT"),
    "bind": ("EADDRINUSE", "EACCES", "ENOMEM"),
    "getsockname": ("ENOBUFS", "ENOTCONN"),
    "getpeername": ("ENOBUFS", "ENOTCONN"),
    "getsockopt": ("ENOPROTOOPT", "ENOTCONN", "ENOMEM"),
    "setsockopt": ("ENOPROTOOPT", "ENOMEM"),
    "sendto": ("ECONNRESET", "EPIPE", "EAGAIN", "EINTR", "ENOMEM", "ENOBUFS"),
    "sendmsg": ("ECONNRESET", "EPIPE", "EAGAIN", "EINTR", "ENOMEM", "ENOBUFS"),
    "recvfrom": ("ECONNRESET", "EAGAIN", "EINTR", "ENOMEM", "ETIMEDOUT"),
    "recvmsg": ("ECONNRESET", "EAGAIN", "EINTR", "ENOMEM", "ETIMEDOUT"),
    "shutdown": ("ENOTCONN", "ENOBUFS"),
    "poll": ("EINTR", "ENOMEM", "EINVAL"),
    "ppoll": ("EINTR", "ENOMEM", "EINVAL"),
    "select": ("EINTR", "ENOMEM"),
    "pselect6": ("EINTR", "ENOMEM"),
    # Memory
    "mmap": ("ENOMEM", "EAGAIN"),
    "mremap": ("ENOMEM", "EAGAIN"),
    "munmap": ("ENOMEM",),
    "mprotect": ("ENOMEM", "EACCES"),
    "madvise": ("ENOMEM", "EAGAIN"),
    # Processes
    "clone": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN", "ENOMEM"),
    "fork": ("EAGAIN", "ENOMEM"),
    "vfork": ("EAGAIN", "ENOMEM"),
    "wait4": ("EINTR", "ECHILD"),
    "waitid": ("EINTR", "ECHILD"),
    "kill": ("EPERM", "ESRCH"),
    "pidfd_open": ("EMFILE", "ENOMEM", "ESRCH", "ENOSYS"),
    "pidfd_getfd": ("EPERM", "EMFILE", "ESRCH", "ENOSYS"),
    "pidfd_send_signal": ("EPERM", "ESRCH"),
    "prlimit64": ("EPERM", "ESRCH", "EINVAL"),
    "prctl": ("EINVAL", "EPERM"),
    "sched_getaffinity": ("EINVAL", "ESRCH"),
    "sched_setaffinity": ("EINVAL", "EPERM", "ESRCH"),
    "setns": ("EPERM", "EINVAL", "ENOMEM"),
    "unshare": ("EPERM", "ENOMEM", "ENOSPC"),
    "rt_sigaction": ("EINVAL",),
    "rt_sigprocmask": ("EINVAL",),
    "rt_sigtimedwait": ("EAGAIN", "EINTR"),
    "setitimer": ("EINVAL",),
    "sigaltstack": ("ENOMEM",),
    "setpriority": ("EPERM", "EACCES", "ESRCH"),
    "getpriority": ("EPERM", "ESRCH"),
    "setsid": ("EPERM",),
    "nanosleep": ("EINTR",),
    "clock_nanosleep": ("EINTR",),
    # The host
    "getrandom": ("EINTR", "EAGAIN", "ENOSYS"),
    "keyctl": ("EACCES", "ENOMEM"),
}

# Those that always succeed, by their manual pages, or fail by a wrong address alone, and
# those that do not return.
NEVER = frozenset(
    {
        *("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getpgrp"),
        *("exit", "exit_group", "brk", "futex", "set_robust_list", "set_tid_address", "umask"),
        *("rt_sigreturn", "restart_syscall", "arch_prctl", "rseq", "execve", "time"),
        *("alarm", "getsid", "sched_yield", "gettimeofday", "clock_gettime", "getrusage", "times"),
        *("getgroups", "getresuid", "getresgid", "uname", "sysinfo"),
    }
)

# What talks to others is tried late, too: the others wait for this side, or it for them.
TALKS = ("connect", "sendto", "recvfrom", "recvmsg", "sendmsg", "poll")
DELAY = 3.0  # seconds
