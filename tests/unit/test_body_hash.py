"""K12 against the test vectors of RFC 9861 and hashes that Slurm itself made."""

from __future__ import annotations

import pytest

from slurm_adopt.slurm.slurmd import body_hash


def pattern(size: int) -> bytes:
    """Return ptn(size) of the RFC."""
    return bytes(index % 251 for index in range(size))


BODY = bytes.fromhex(
    "000000100a000001000000000000000000000000000000100a000002000000000000000000000000"
    "0000c3500000001600000002"
)

# RFC 9861, section 5: KT128(message, customization, 32); the last one is Slurm's own: the body of
# REQUEST_NETWORK_CALLERID about 10.0.0.1:50000 to 10.0.0.2:22.
# fmt: off
VECTORS = [
    (b"",           b"",   "1ac2d450fc3b4205d19da7bfca1b37513c0803577ac7167f06fe2ce1f0ef39e5"),
    (pattern(1),    b"",   "2bda92450e8b147f8a7cb629e784a058efca7cf7d8218e02d345dfaa65244a1f"),
    (pattern(17),   b"",   "6bf75fa2239198db4772e36478f8e19b0f371205f6a9a93a273f51df37122888"),
    (pattern(289),  b"",   "0c315ebcdedbf61426de7dcf8fb725d1e74675d7f5327a5067f367b108ecb67c"),
    (pattern(4913), b"",   "cb552e2ec77d9910701d578b457ddf772c12e322e4ee7fe417f92c758f0d59d0"),
    (pattern(8191), b"",   "1b577636f723643e990cc7d6a659837436fd6a103626600eb8301cd1dbe553d6"),
    (b"",           b"\0", "fab658db63e94a246188bf7af69a133045f46ee984c56e3c3328caaf1aa1a583"),
    (b"\xff", pattern(41), "d848c5068ced736f4462159b9867fd4c20b808acc3d5bc48e0b06ba0a3762ec4"),
    (BODY,   b"\x13\xab",  "f5a281c94065a9f6f8bff6f27f2e12e8ab2c182b9a368789b86dc402b80e2b3f"),
]
# fmt: on


@pytest.mark.parametrize(("message", "customization", "expected"), VECTORS)
def test_vectors(message: bytes, customization: bytes, expected: str) -> None:
    """The digest is the published one."""
    assert body_hash.digest(message, customization).hex() == expected


def test_more_than_one_chunk() -> None:
    """What would need a tree is refused, not hashed wrongly."""
    with pytest.raises(ValueError, match="8193 bytes"):
        body_hash.digest(pattern(8192))
