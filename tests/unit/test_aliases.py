"""The other names of this host: by a hosts file, and by all that is asked for names."""

from __future__ import annotations

from pathlib import Path

import pytest

from slurm_adopt.slurm.config import aliases

HOSTS = """\
127.0.0.1 localhost
10.0.0.1\tn1.dom N1 # b1
10.0.0.1  gpu1 n1 node1
10.0.0.2 n2
#10.0.0.4 n4 x4
10.0.0.5 n5
fd00::5 six5 n5
10.0.0.9
"""
# (host name, its names, the canonical ones first)
NAMES: list[tuple[str, list[str]]] = [
    ("n1", ["n1.dom", "gpu1", "N1", "n1", "node1"]),
    ("N1.DOM", ["n1.dom", "N1"]),
    ("n2", ["n2"]),
    ("n4", []),
    ("b1", []),
    ("n5", ["n5", "six5"]),
    ("10.0.0.9", []),
    ("", []),
]


@pytest.mark.parametrize(("hostname", "names"), NAMES)
def test_hosts_file(tmp_path: Path, hostname: str, names: list[str]) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    assert aliases.of_hosts(hostname, str(tmp_path / "hosts")) == names


def test_hosts_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_bytes(b"10.0.0.1 n1 \xff\0\n10.0.0.1 b n1")
    assert aliases.of_hosts("n1", str(tmp_path / "hosts")) == ["n1", "b", "\udcff\0"]
    assert aliases.of_hosts("n1", "/nowhere") == []
    assert aliases.of_hosts("n1", "/dev/zero") == []


def answer(*rows: tuple[str, str]) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    """Return what getaddrinfo does: canonical name and address each."""
    return [(2, 1, 6, canonical, (address, 0)) for canonical, address in rows]


def fail(*_: object) -> None:
    raise OSError("nothing found")


def test_all_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """The canonical name, the names of further addresses, the aliases: Slurm's order."""
    found = answer(("c.dom", "10.0.0.1"), ("", "10.0.0.2"), ("", "10.0.0.3"))
    names = {"10.0.0.2": "two"}
    socket = aliases._socket  # type: ignore[attr-defined]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    reverse = lambda address, _: (names[address[0]], "0") if address[0] in names else fail()  # noqa: E731
    monkeypatch.setattr(socket, "getnameinfo", reverse)
    aliased: tuple[str, list[str], list[str]] = ("c.dom", ["a", "c.dom", "b"], [])
    monkeypatch.setattr(socket, "gethostbyname_ex", lambda _: aliased)
    assert aliases.of_host("c") == ["c.dom", "two", "a", "b"]
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert aliases.of_host("c") == ["a", "c.dom", "b"]
    monkeypatch.setattr(socket, "gethostbyname_ex", fail)
    assert aliases.of_host("n\udcff" * 99) == []


def test_this_host() -> None:
    """Whatever its resolver says, it says it without an exception."""
    assert "" not in aliases.of_host("localhost")
