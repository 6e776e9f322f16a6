"""Coinbase's signatures: one JWT per request, and one per subscription (venue sheet, section 3).

Owns the private key and the claims. Must never: let key or token into a text, or use a token for a second path. The key may be an
ECDSA key on P-256 (a PEM, often with literal \\n in an environment variable) or an Ed25519 key (a PEM, or base64 of 32 or 64
bytes).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

LIFE_S = 120
NONCE_WORDS = 8  # of 32 bits: 64 hex characters


class BadKey(ValueError):
    """The configured key cannot be used. The text says why, and nothing of the key."""


class Signer:
    """Makes tokens. Thread-safe: what it holds never changes. `now_ms` is the venue's time as well as we know it."""

    def __init__(self, key_name: str, secret: str, now_ms: Callable[[], int], chance: Callable[[], float]) -> None:
        self._encode = _library().encode
        self._key_name = key_name.strip()
        self._algorithm, self._key = private_key(secret)
        self._now_ms = now_ms
        self._chance = chance
        if not self._key_name:
            raise BadKey("COINBASE_API_KEY is empty: it is the key's name, organizations/.../apiKeys/..., or its UUID")

    def request(self, method: str, host: str, path: str) -> str:
        """A token for one request: `path` as it is on the wire, of which the query string is not signed."""
        return self._token({"uri": f"{method} {host}{path.partition('?')[0]}"})

    def subscription(self) -> str:
        """A token for one message to a stream."""
        return self._token({})

    def _token(self, more: dict[str, str]) -> str:
        now_s = self._now_ms() // 1000
        claims = {"sub": self._key_name, "iss": "cdp", "nbf": now_s, "exp": now_s + LIFE_S, **more}
        # Unlike the key a nonce is no secret: it must only not come twice.
        nonce = "".join(f"{int(self._chance() * 2**32):08x}" for _ in range(NONCE_WORDS))
        token: str = self._encode(claims, self._key, self._algorithm, {"kid": self._key_name, "nonce": nonce})
        return token


def private_key(secret: str) -> tuple[str, Any]:
    """The algorithm's name and the key, of any spelling that the venue hands out."""
    _library()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = secret.replace("\\n", "\n").strip()
    if not text.startswith("-----BEGIN"):
        return "EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(_seed(text))
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # raised below, outside: the library's text may quote what it was given
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return "ES256", key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA", key
    raise BadKey("COINBASE_API_SECRET is not a private key that Coinbase uses: it must be ECDSA on P-256, or Ed25519")


def _seed(text: str) -> bytes:
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) not in (32, 64):
        raise BadKey("COINBASE_API_SECRET is neither a PEM private key nor base64 of 32 or 64 bytes (Ed25519)")
    return raw[:32]


def _library() -> Any:
    try:
        import cryptography  # noqa: F401
        import jwt
    except ImportError as missing:
        raise BadKey(
            f"Coinbase needs the extra packages of its signatures ({missing.name} is not installed):"
            ' pip install "live-strategy-runner[coinbase]"'
        ) from None
    return jwt
