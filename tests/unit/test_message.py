"""Messages as bytes: captured from ten releases, cut anywhere, changed anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_adopt.slurm.errors import FormatError
from slurm_adopt.slurm.slurmd import message as codec
from slurm_adopt.slurm.versions import RELEASES, release_of
from tests.fakes import slurmd
from tests.fakes.requests import RESPONSE_NETWORK_CALLERID
from tests.fakes.slurmd import BY_NAME, Dialogue, answer, reply, wire

CALLERID = 5035
BODY = bytes(52)
R2205 = BY_NAME["22.05"]
JOB = 4711

# Captured messages of ten releases


@pytest.mark.parametrize(("release", "dialogue"), slurmd.dialogues("request"))
def test_captured_request(release: str, dialogue: Dialogue) -> None:
    """We make the very bytes that slurmds of ten releases accepted."""
    parts = dialogue["request"]
    row = release_of(int(parts["header"][:4], 16))
    assert row is not None, release
    text = bytes.fromhex(parts["auth"])[8:-1].decode()
    made = codec.pack(row, CALLERID, bytes.fromhex(parts["body"]), 101, text)
    assert made == wire(parts)


@pytest.mark.parametrize(("release", "dialogue"), slurmd.dialogues("request"))
def test_captured_request_payload(release: str, dialogue: Dialogue) -> None:
    """The payload we put into a credential is one that was accepted, form by form."""
    found, body = bytes.fromhex(dialogue["payload"]), bytes.fromhex(dialogue["request"]["body"])
    row = release_of(int(dialogue["request"]["header"][:4], 16))
    assert row is not None, release
    form = found[0] if found else 0
    if form in row.request_payloads and "big-endian" not in dialogue["name"]:
        assert codec.payload(form, CALLERID, body) == found


@pytest.mark.parametrize(("release", "dialogue"), slurmd.dialogues("reply"))
def test_captured_reply(release: str, dialogue: Dialogue) -> None:
    """Every reply is read, and its credential is found bound to it."""
    message = codec.unpack(wire(dialogue["reply"])[4:])
    expected = dialogue["decoded"]
    assert message.protocol == expected["version"], release
    assert (message.flags, message.type) == (expected["flags"], expected["msg_type"])
    assert message.body.hex() == dialogue["reply"]["body"]
    assert (message.credential is not None) == ("credential" in dialogue)
    if "credential" in dialogue:
        assert codec.is_bound(bytes.fromhex(dialogue["credential"]["payload"]), message)


@pytest.mark.parametrize("name", ["17.11", "18.08"])
def test_plugin_by_name(name: str) -> None:
    """Up to 18.08 the header has 22 bytes and the auth section names its plugin in words."""
    release = BY_NAME[name]
    data = codec.pack(release, CALLERID, BODY, "auth/munge", "MUNGE:x:")
    expected = (
        release.protocol.to_bytes(2, "big").hex() + "0000"
        "0000"
        "13ab"
        "00000034"
        "0000"
        "0000"
        "00000000"
        "0000"
        "0000000b" + b"auth/munge\0".hex() + "00000000"
        "00000009" + b"MUNGE:x:\0".hex() + BODY.hex()
    )
    assert data[4:].hex() == expected
    message = codec.unpack(data[4:])
    assert (message.plugin, message.credential, message.body) == ("auth/munge", "MUNGE:x:", BODY)


@pytest.mark.parametrize(
    ("family", "rest"),
    [("0000", ""), ("0002", "0100007f0000"), ("000a", "00000010" + "00" * 18), ("0009", "")],
)
def test_origin_address(family: str, rest: str) -> None:
    """A reply may carry an origin address of either family."""
    header = "260000401f410000000400000000" + family + rest
    assert codec.unpack(bytes.fromhex(header + "0000138b")).body == b"\0\0\x13\x8b"


# Bound or not


@pytest.mark.parametrize(
    ("release", "found", "expected"),
    [
        ("20.11", "", True),
        ("20.11", "01ac13", True),
        ("20.11", "0113ac", True),
        ("20.11", "01ab13", False),
        ("20.11", "01ac", False),
        ("20.11", "01", False),
        ("20.11", "02" + "00" * 32, False),
        ("22.05", "", False),
        ("22.05", "01ac13", False),
        ("22.05", "0113ac", False),
        ("22.05", "02" + "00" * 32, False),
        ("22.05", "02", False),
        ("22.05", "09", False),
        ("26.05", "", False),
    ],
)
def test_bound(release: str, found: str, expected: bool) -> None:
    """How far a credential must belong to its reply, by release."""
    row = BY_NAME[release]
    message = codec.unpack(reply(row, answer(row, JOB))[4:])
    assert codec.is_bound(bytes.fromhex(found), message) is expected


@pytest.mark.parametrize("form", [2, 4])
def test_bound_to_the_body(form: int) -> None:
    """K12 and SHA3 payloads belong to one body and one message type."""
    message = codec.unpack(reply(R2205, b"body")[4:])
    assert codec.is_bound(codec.payload(form, RESPONSE_NETWORK_CALLERID, b"body"), message)
    assert not codec.is_bound(codec.payload(form, RESPONSE_NETWORK_CALLERID, b"bodY"), message)
    assert not codec.is_bound(codec.payload(form, 5035, b"body"), message)


def test_sha3() -> None:
    """The SHA3 payload as Slurm makes it."""
    body = "000000100a000001000000000000000000000000000000100a000002000000000000000000000000"
    digest = "09ff51d350d165358468799bd173e736ebb2e05eed69cf87abb6fb5273ab8ff6"
    found = codec.payload(4, CALLERID, bytes.fromhex(body + "0000c3500000001600000002"))
    assert found.hex() == "04" + digest


@pytest.mark.parametrize("name", ["17.11", "20.02", "20.11", "26.05"])
def test_shorter_at_every_byte_in_other_layouts(name: str) -> None:
    """The same for the codec of other header layouts."""
    whole = reply(BY_NAME[name], answer(BY_NAME[name], JOB))[4:]
    for cut in range(len(whole)):
        with pytest.raises(FormatError, match="reply"):
            codec.unpack(whole[:cut])


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes is a message or a FormatError."""
    try:
        codec.unpack(data)
    except FormatError as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(st.data())
def test_any_change(data: st.DataObject) -> None:
    """A reply with any bytes changed is a message or a FormatError."""
    release = data.draw(st.sampled_from(RELEASES))
    changed = bytearray(reply(release, answer(release, JOB))[4:])
    for index in data.draw(st.lists(st.integers(0, len(changed) - 1), max_size=4)):
        changed[index] = data.draw(st.integers(0, 255))
    try:
        codec.unpack(bytes(changed))
    except FormatError as error:
        assert "\n" not in str(error)  # noqa: PT017
