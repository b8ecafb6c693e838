"""The real libpam running stacks in files, in a child that is no root."""

from __future__ import annotations

import json
import subprocess

MODULE = "pam_debug.so open_session="  # and the name of the value that it is to return

# Reads a list of cases, each the files, the user and the phase of one, from standard input; {here}
# in a file is its folder, for includes by path (Debian's libpam looks for others in /etc/pam.d
# whatever the folder). Prints for each what the phase's function of PAM's returned. An unprivileged
# caller's sessions are not written to the kernel's audit log.
CHILD = r"""
import ctypes, glob, json, os, sys, tempfile

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
libc = ctypes.CDLL(None)
libc.calloc.restype = ctypes.c_void_p
libpam = ctypes.CDLL("libpam.so.0")
kept = [ctypes.CDLL(path) for path in glob.glob("/lib/*/security/pam_[dp]e*.so")]  # loaded once

Texts = ctypes.c_void_p
Answers = ctypes.POINTER(ctypes.c_void_p)
Talk = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, Texts, Answers, ctypes.c_void_p)

class Conversation(ctypes.Structure):
    _fields_ = [("talk", Talk), ("data", ctypes.c_void_p)]

@Talk
def listen(count, texts, answers, data):
    answers[0] = libc.calloc(count, 16)  # struct pam_response; libpam frees it
    return 0

conversation = Conversation(listen, None)

def run(folder, user, phase):
    handle = ctypes.c_void_p()
    arguments = (b"sshd", user.encode(), ctypes.byref(conversation), os.fsencode(folder))
    code = libpam.pam_start_confdir(*arguments, ctypes.byref(handle))
    if code == 0:  # else a mistake in the files keeps it from anything
        functions = {"session": libpam.pam_open_session, "account": libpam.pam_acct_mgmt}
        code = functions[phase](handle, 0)
        libpam.pam_end(handle, code)
    return code

with tempfile.TemporaryDirectory() as folder:
    results, written = [], {}
    for files, user, phase in json.load(sys.stdin):
        for name, text in {"other": "", **files}.items():
            if written.get(name) != text:
                with open(f"{folder}/{name}", "w") as file:
                    file.write(text.replace("{here}", folder))
                written[name] = text
        results.append(run(folder, user, phase))
    print(json.dumps(results))
"""


def open_sessions(cases: list[dict[str, str]]) -> list[int]:
    """Return for each stack what libpam's pam_open_session returned."""
    return run([(files, "nobody", "session") for files in cases])


def run(cases: list[tuple[dict[str, str], str, str]]) -> list[int]:
    """Return for each stack, user and phase what libpam returned."""
    argv = ["/usr/bin/python3", "-I", "-c", CHILD]
    done = subprocess.run(
        argv, input=json.dumps(cases), check=True, stdout=subprocess.PIPE, text=True
    )
    codes: list[int] = json.loads(done.stdout)
    return codes
