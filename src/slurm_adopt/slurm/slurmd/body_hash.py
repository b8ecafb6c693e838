"""KangarooTwelve (RFC 9861, KT128) of short messages: the hash that binds a credential to a body.

Slurm 22.05 and later put it into the payload of each credential (src/plugins/hash/k12). Only inputs
of one chunk are hashed here, which is every message this package sends or accepts; they need no
tree. One hash of 52 bytes is one permutation: about 0.1 ms.
"""

from __future__ import annotations

CHUNK = 8192  # bytes of message, customization and its length that fit into one chunk
DIGEST = 32  # bytes
_RATE = 168  # bytes absorbed per permutation
_DOMAIN = 0x07  # TurboSHAKE domain separation byte of a single-chunk message
_LANE = (1 << 64) - 1

# Keccak-p[1600, 12]: the last twelve round constants of Keccak-f[1600] (FIPS 202, 3.2.5).
# fmt: off
_ROUNDS = (
    0x000000008000808B, 0x800000000000008B, 0x8000000000008089, 0x8000000000008003,
    0x8000000000008002, 0x8000000000000080, 0x000000000000800A, 0x800000008000000A,
    0x8000000080008081, 0x8000000000008080, 0x0000000080000001, 0x8000000080008008,
)
# fmt: on


def _moves() -> tuple[tuple[int, int], ...]:
    """Return for each lane x + 5y after rho and pi the lane it comes from and its rotation."""
    moves = [(0, 0)] * 25
    x, y = 1, 0
    for step in range(24):
        target_y = (2 * x + 3 * y) % 5
        moves[y + 5 * target_y] = (x + 5 * y, (step + 1) * (step + 2) // 2 % 64)
        x, y = y, target_y
    return tuple(moves)


_MOVES = _moves()


def _permute(a: list[int]) -> list[int]:
    """Return the state (25 lanes of 64 bits, lane x + 5y) after the twelve rounds."""
    for constant in _ROUNDS:
        c = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        d = [c[x - 1] ^ (c[x - 4] << 1 & _LANE | c[x - 4] >> 63) for x in range(5)]
        b = []
        for lane, turn in _MOVES:
            value = a[lane] ^ d[lane % 5]
            b.append(value << turn & _LANE | value >> 64 - turn)
        a = []
        for y in (0, 5, 10, 15, 20):
            p, q, r, s, t = b[y : y + 5]
            a += (p ^ ~q & r, q ^ ~r & s, r ^ ~s & t, s ^ ~t & p, t ^ ~p & q)
        a[0] ^= constant
    return a


def _length(size: int) -> bytes:
    """Return length_encode of the RFC: the value without leading zero bytes, then their count."""
    value = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return value + bytes((len(value),))


def digest(message: bytes, customization: bytes = b"") -> bytes:
    """Return the 32-byte hash; ValueError if the input does not fit into one chunk."""
    text = message + customization + _length(len(customization))
    if len(text) > CHUNK:
        raise ValueError(f"{len(text)} bytes do not fit into one chunk of {CHUNK}")
    padded = bytearray(text) + bytes((_DOMAIN,))
    padded += bytes(-len(padded) % _RATE)
    padded[-1] ^= 0x80
    state = [0] * 25
    for start in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            offset = start + 8 * lane
            state[lane] ^= int.from_bytes(padded[offset : offset + 8], "little")
        state = _permute(state)
    return b"".join(lane.to_bytes(8, "little") for lane in state[: DIGEST // 8])
