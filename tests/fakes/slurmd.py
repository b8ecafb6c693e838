"""What the tests of the RPC share: captured dialogues, an auth plugin without munged, replies."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slurm_adopt.slurm.auth.credential import ANY, Credential, CredentialError
from slurm_adopt.slurm.slurmd.message import pack, payload
from slurm_adopt.slurm.versions import RELEASES, Release
from tests.fakes.requests import RESPONSE_NETWORK_CALLERID, RESPONSE_SLURM_RC

if TYPE_CHECKING:
    from slurm_adopt.slurm.waiting import Deadline

VECTORS = Path(__file__).parents[1] / "vectors"
ASKER = os.geteuid()  # whom replies must be for

BY_NAME = {release.name: release for release in RELEASES}

Dialogue = dict[str, Any]


def dialogues(key: str = "") -> list[tuple[str, Dialogue]]:
    """Return release and dialogue of all captures, those that have `key` if given."""
    found = []
    for path in sorted(VECTORS.glob("callerid-*.json")):
        capture = json.loads(path.read_text())
        found += [
            (capture["release"], one) for one in capture["dialogues"] if not key or key in one
        ]
    return found


def wire(parts: dict[str, str]) -> bytes:
    """Return a captured message as it was on the wire."""
    return b"".join(bytes.fromhex(parts[part]) for part in ("length", "header", "auth", "body"))


class Auth:
    """An auth plugin whose credentials are readable: UID/RESTRICTION/PAYLOAD."""

    plugin_id = 101
    plugin_name = "auth/munge"
    key_name = "munge key"
    oldest = 0

    def __init__(self, captured: Dialogue | None = None) -> None:
        """Take what munge said of the credential of a captured reply, if that is to be read."""
        self.captured = captured
        self.made: list[str] = []

    def encode(self, data: bytes, deadline: Deadline) -> str:  # noqa: ARG002 - as the real one
        """Make a credential of uid 0 for anyone."""
        self.made.append(credential(data, restriction=ANY))
        return self.made[-1]

    def decode(self, text: str, deadline: Deadline) -> Credential:  # noqa: ARG002
        """Read a credential as encode() makes it, or the captured one."""
        if text.startswith("MUNGE:") and self.captured:
            saved = self.captured
            data = bytes.fromhex(saved["payload"])
            restriction = saved["uid_restriction"] or ASKER  # root asked when it was captured
            return Credential(saved["uid"], data, restriction)
        if text == "replayed":
            raise CredentialError("credential refused: used before", "CRED_REPLAYED")
        uid, restriction, data_hex = text.split("/")
        return Credential(int(uid), bytes.fromhex(data_hex), int(restriction))


def credential(data: bytes, uid: int = 0, restriction: int = ASKER) -> str:
    """Return a credential that Auth.decode() reads."""
    return f"{uid}/{restriction}/{data.hex()}"


def answer(release: Release, job_id: int, tail: bytes = b"", node: bytes = b"n2\0") -> bytes:
    """Return the body of a callerid reply."""
    body = b"".join(
        (job_id if field == "job_id" else 0).to_bytes(size, "big") for field, size in release.answer
    )
    return body + len(node).to_bytes(4, "big") + node + tail


def reply(
    release: Release,
    body: bytes,
    kind: int = RESPONSE_NETWORK_CALLERID,
    text: str | None = None,
    plugin: int | str | None = None,
) -> bytes:
    """Return a reply with a credential bound to it as far as its release can, or with `text`."""
    if text is None:
        form = 2 if 2 in release.reply_payloads else 1
        text = credential(payload(form, kind, body))
    if plugin is None:
        plugin = 101 if release.plugin == "id" else "auth/munge"
    return pack(release, kind, body, plugin, text)


def error(release: Release, code: int, flags: int = 0x0040) -> bytes:
    """Return a RESPONSE_SLURM_RC without a credential, as since 23.02."""
    header = bytearray(
        pack(release, RESPONSE_SLURM_RC, (code & 0xFFFFFFFF).to_bytes(4, "big"), 101, "")[4:]
    )
    header[2:4] = flags.to_bytes(2, "big")
    auth = b"\0\0\0\x65" + b"\0\0\0\1\0"
    size = sum(width for _, width in release.header)
    message = bytes(header[:size]) + bytes(header[size + len(auth) :])
    return len(message).to_bytes(4, "big") + message
