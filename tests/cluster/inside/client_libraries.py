"""Runs a command on n1 by one of the libraries, as alice; run in a host by its own Python.

    client_libraries.py LIBRARY PASSWORD COMMAND

It offers key and password, and prints what the library tells a program that does nothing special.
"""

from __future__ import annotations

import ctypes
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

HOST, USER = "n1", "alice"
KEY = str(Path.home() / ".ssh/id_ed25519")
LIBSSH_HOST, LIBSSH_USER = 0, 4  # of ssh_options_e in libssh.h


def paramiko(password: str, command: str) -> str:
    """Use SSHClient."""
    library = import_module("paramiko")
    client = library.SSHClient()
    client.set_missing_host_key_policy(library.AutoAddPolicy())
    client.connect(HOST, username=USER, password=password, key_filename=KEY)
    _, out, err = client.exec_command(command)
    return f"{out.read().decode()}{err.read().decode()}"


def asyncssh(password: str, command: str) -> str:
    """Use connect() and run()."""
    library, asyncio = import_module("asyncssh"), import_module("asyncio")

    async def run() -> str:
        options = {"username": USER, "password": password, "client_keys": [KEY]}
        async with library.connect(HOST, known_hosts=None, **options) as connection:
            done = await connection.run(command)
            return f"{done.stdout}{done.stderr}"

    return str(asyncio.run(run()))


def libssh(password: str, command: str) -> str:
    """Use the functions of libssh's own examples, key first, then password."""
    library = ctypes.CDLL("libssh.so.4")
    session = _new(library.ssh_new)
    for name, value in ((LIBSSH_HOST, HOST), (LIBSSH_USER, USER)):
        library.ssh_options_set(session, name, value.encode())
    library.ssh_connect(session)
    if library.ssh_userauth_publickey_auto(session, None, None):
        library.ssh_userauth_password(session, None, password.encode())
    channel = _new(library.ssh_channel_new, session)
    if library.ssh_channel_open_session(channel):
        library.ssh_get_error.restype = ctypes.c_char_p
        return str(library.ssh_get_error(session).decode())
    library.ssh_channel_request_exec(channel, command.encode())
    buffer = ctypes.create_string_buffer(4000)
    library.ssh_channel_read(channel, buffer, len(buffer) - 1, 0)
    return buffer.value.decode()


def _new(function: Any, *arguments: Any) -> ctypes.c_void_p:
    """Return what a function makes, as a pointer."""
    function.restype = ctypes.c_void_p
    return ctypes.c_void_p(function(*arguments))


def main() -> None:
    """Run it; print what comes, or the error as a program would print it."""
    warnings.simplefilter("ignore")
    name, password, command = sys.argv[1:]
    try:
        print({f.__name__: f for f in (paramiko, asyncssh, libssh)}[name](password, command))
    except Exception as error:  # noqa: BLE001 - of whatever kind the library has
        print(error)


if __name__ == "__main__":
    main()
