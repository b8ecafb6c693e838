"""Where a login comes from, as `slurm-adopt explain --from` is told, and as the kernel shows it."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from slurm_adopt.cli.errors import USAGE, CliError
from slurm_adopt.cli.explain import login_source
from slurm_adopt.cli.explain.login_source import Given

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = [
    ("10.0.0.1", Given("10.0.0.1", None)),
    ("10.0.0.1:22", Given("10.0.0.1", 22)),
    ("::1", Given("::1", None)),
    ("[::1]", Given("::1", None)),
    ("[2001:DB8::1]:65535", Given("2001:db8::1", 65535)),
    ("::ffff:10.0.0.1", Given("10.0.0.1", None)),
    ("[::ffff:10.0.0.1]:22", Given("10.0.0.1", 22)),
]
NOT_GIVEN = [
    "", "x", "host:22", "10.0.0.1:", "10.0.0.1:x", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:-1",
    "[::1", "[::1]22", "[::1]:", "[]", "10.0.0.256", "1.2.3", "10.0.0.1:٢٢", "10.0.0.1:1:2",
]  # fmt: skip


@pytest.mark.parametrize(("text", "given"), GIVEN)
def test_given(text: str, given: Given) -> None:
    assert login_source.parse(text) == given
    assert login_source.parse(str(given)) == given


@pytest.mark.parametrize("text", NOT_GIVEN)
def test_not_given(text: str) -> None:
    with pytest.raises(CliError, match="--from ") as caught:
        login_source.parse(text)
    assert caught.value.status == USAGE


@pytest.mark.parametrize(
    ("family", "address", "connect"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "127.0.0.1", "::ffff:127.0.0.1"),
    ],
    ids=["IPv4", "IPv6", "mapped"],
)
def test_a_connection_that_is_there(family: int, address: str, connect: str) -> None:
    """By address and port it is found whoever has it; by the address only if it is sshd's."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family))
        listener.bind((connect, 0))
        listener.listen()
        port = listener.getsockname()[1]
        client = stack.enter_context(socket.create_connection((connect, port)))
        stack.enter_context(listener.accept()[0])
        own = client.getsockname()[1]
        found = login_source.find(Given(address, own))
        assert (found.is_there, found.holder) == (True, 0)
        assert str(found.connection) == f"{address} {own} {address} {port}"
        there = login_source.connections(Given(address, None)).values()
        assert own in {one.source_port for one in there}
        assert login_source.find(Given(address, None)).connection is None


def test_several_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two from an address the port has to be given; each has its process of sshd's."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.9", 0))
        listener.listen()
        ports, held = [], {}
        for pid in (41, 42):
            bound = ("127.0.0.8", 0)
            one = stack.enter_context(socket.create_connection(listener.getsockname(), None, bound))
            accepted = stack.enter_context(listener.accept()[0])
            ports.append(one.getsockname()[1])
            held[os.fstat(accepted.fileno()).st_ino] = pid
            monkeypatch.setattr(login_source, "sshd_sockets", lambda _, held=held: held)
            if pid == 41:
                assert login_source.find(Given("127.0.0.8", None)).holder == 41
        found = login_source.find(Given("127.0.0.8", None))
        assert found.connection is None
        ends = ", ".join(sorted(f"127.0.0.8:{port}" for port in ports))
        assert found.remark == f"source unknown: several connections are here: {ends}"
        assert login_source.find(Given("127.0.0.8", ports[1])).holder == 42


def test_none_is_there() -> None:
    """With a port it is taken to come to sshd's port of the address that answers."""
    found = login_source.find(Given("127.0.0.7", 9))
    assert not found.is_there
    assert str(found.connection) == "127.0.0.7 9 127.0.0.1 22"
    assert found.remark == "no connection from 127.0.0.7:9 is here now"
    without = login_source.find(Given("127.0.0.7", None))
    assert without.connection is None
    assert without.remark == "source unknown: no connection from 127.0.0.7 is here"


def test_without_tables(tmp_path: Path) -> None:
    """Where /proc is not mounted nothing is there."""
    assert login_source.connections(Given("127.0.0.1", None), str(tmp_path)) == {}
    assert login_source.sshd_sockets(str(tmp_path)) == {}
    assert login_source.ssh_port({}, str(tmp_path)) == login_source.SSH
