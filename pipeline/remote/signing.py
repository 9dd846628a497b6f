"""Who may have pushed: a signature of what was pushed, by a key that only its holder's environment knows.

A bucket's credentials say who may write there, not whose numbers those are, and a folder has none: therefore both. The pair of keys
(Ed25519) is made from the secret, so that readers need nothing secret to check it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.objects.store import EXTRA

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY, SIGNERS = "SIGNCACHE_REMOTE_KEY", "SIGNCACHE_REMOTE_SIGNERS"
"""In the environment, and nowhere else: the secret to push with; the signers to believe, by commas, where not everybody is."""
LEAST = 16
SALT = b"signcache remote key 1"


class Key:
    """The key of who pushes; `signer` is its public half, 64 hex digits."""

    def __init__(self, secret: str) -> None:
        seed = hashlib.scrypt(secret.encode(), salt=SALT, n=1 << 14, r=8, p=1, dklen=32)
        self._private: Ed25519PrivateKey = _ed25519().Ed25519PrivateKey.from_private_bytes(seed)
        self.signer = self._private.public_key().public_bytes_raw().hex()

    def signed(self, said: Mapping[str, Any]) -> bytes:
        """The bytes of an object that holds these values, the signer and the signature."""
        content = {**said, "signer": self.signer}
        return json.dumps({**content, "signature": self._private.sign(_canonical(content)).hex()}, allow_nan=False).encode()


def key() -> Key:
    """The key in the environment; raises UserError where there is none, for a remote is read-only without."""
    secret = os.environ.get(KEY, "")
    if not secret:
        raise UserError(f"without {KEY} in the environment a remote is only read; set it to a secret, as of: openssl rand -hex 32")
    if len(secret) < LEAST:
        raise UserError(f"{KEY} has {len(secret)} characters, and at least {LEAST} are wanted; make one: openssl rand -hex 32")
    return Key(secret)


def believed() -> frozenset[str]:
    """The signers that are believed; empty where everybody is, whose rows are tried all the same."""
    said = [part.strip() for part in os.environ.get(SIGNERS, "").split(",") if part.strip()]
    for part in said:
        if len(part) != 64 or set(part) - set("0123456789abcdef"):
            raise UserError(f"{SIGNERS} holds {part!r}, which is no signer: 64 hex digits, as `signcache push` says them")
    return frozenset(said)


def checked(raw: bytes) -> dict[str, Any]:
    """The values in a signed object, its `signer` among them; raises ValueError where they are not those that were signed."""
    content = json.loads(raw)
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    signature = bytes.fromhex(content.pop("signature"))
    public = _ed25519().Ed25519PublicKey.from_public_bytes(bytes.fromhex(content["signer"]))
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(signature, _canonical(content))
    except InvalidSignature:
        raise ValueError("its signature does not fit what it says") from None
    return content


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _ed25519() -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UserError(f"shared features are signed, which needs cryptography: {EXTRA}") from error
    return ed25519
