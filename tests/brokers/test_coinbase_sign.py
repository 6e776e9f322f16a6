"""Coinbase's tokens: every spelling of a key, one token per request, and nothing of a key in any text.

There is no published vector (ES256 is randomised): tokens are decoded and verified with the public key. For Ed25519 there is RFC
8032's.
"""

from __future__ import annotations

import base64
import builtins
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from brokers.coinbase_sign import BadKey, Signer, private_key
from tests.brokers.coinbase_double import KEY_NAME, SECRET

NOW_S = 1_795_190_400
HOST = "api.coinbase.com"
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
SEC1 = serialization.PrivateFormat.TraditionalOpenSSL
OPEN = serialization.NoEncryption()
RAW = serialization.Encoding.Raw
EDDSA = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SEED = EDDSA.private_bytes(RAW, serialization.PrivateFormat.Raw, OPEN)
PUBLIC = EDDSA.public_key().public_bytes(RAW, serialization.PublicFormat.Raw)


def chance() -> float:
    return 0.5


def signer(secret: str = SECRET, name: str = KEY_NAME, **more: Any) -> Signer:
    return Signer(name, secret, lambda: NOW_S * 1000, more.get("chance", chance))


def decoded(token: str, public: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    options: Any = {"verify_exp": False, "verify_nbf": False}
    return jwt.get_unverified_header(token), jwt.decode(token, public, ["ES256", "EdDSA"], options=options)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_a_request_is_signed_for_its_method_host_and_path_and_without_its_query() -> None:
    """Section 3: exp is nbf + 120; `uri` has no scheme and no query string."""
    token = signer().request("GET", HOST, "/api/v3/brokerage/orders/historical/batch?limit=250&cursor=a%2Fb")

    header, claims = decoded(token, private_key(SECRET)[1].public_key())
    assert header == {"alg": "ES256", "typ": "JWT", "kid": KEY_NAME, "nonce": "80000000" * 8}
    assert claims == {
        "sub": KEY_NAME,
        "iss": "cdp",
        "nbf": NOW_S,
        "exp": NOW_S + 120,
        "uri": "GET api.coinbase.com/api/v3/brokerage/orders/historical/batch",
    }


def test_the_signature_is_two_numbers_of_32_bytes_and_not_der() -> None:
    signature = signer().request("POST", HOST, "/api/v3/brokerage/orders").split(".")[2]

    assert len(base64.urlsafe_b64decode(signature + "==")) == 64


def test_a_subscription_is_signed_without_a_uri() -> None:
    _, claims = decoded(signer().subscription(), private_key(SECRET)[1].public_key())

    assert claims == {"sub": KEY_NAME, "iss": "cdp", "nbf": NOW_S, "exp": NOW_S + 120}


def test_no_two_tokens_have_one_nonce() -> None:
    draws = iter(n / 1000 for n in range(1000))
    tokens = [signer(chance=lambda: next(draws)).subscription() for _ in range(3)]

    nonces = [jwt.get_unverified_header(token)["nonce"] for token in tokens]
    assert len(set(nonces)) == 3 and all(len(nonce) == 64 and int(nonce, 16) >= 0 for nonce in nonces)


SPELLINGS = {
    "sec1": (SECRET, "ES256"),
    "literal newlines": (SECRET.replace("\n", "\\n"), "ES256"),
    "blanks around it": (f"  {SECRET}\n ", "ES256"),
    "windows newlines": (SECRET.replace("\n", "\r\n"), "ES256"),
    "pkcs8": (ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, OPEN).decode(), "ES256"),
    "ed25519 pem": (EDDSA.private_bytes(PEM, PKCS8, OPEN).decode(), "EdDSA"),
    "ed25519 seed": (b64(SEED), "EdDSA"),
    "ed25519 seed and public": (b64(SEED + PUBLIC), "EdDSA"),
    "ed25519 in lines": (" ".join(b64(SEED + PUBLIC)[at : at + 20] + "\n" for at in range(0, 88, 20)), "EdDSA"),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_every_spelling_of_a_key_signs(name: str) -> None:
    secret, algorithm = SPELLINGS[name]

    token = signer(secret, "66666666-7777-8888-9999-000000000000").request("GET", HOST, "/time")

    header, claims = decoded(token, private_key(secret)[1].public_key())
    assert (header["alg"], header["kid"], claims["sub"]) == (algorithm, *["66666666-7777-8888-9999-000000000000"] * 2)


def test_both_base64_forms_of_an_ed25519_key_are_the_same_key() -> None:
    tokens = {signer(secret).subscription() for secret in (b64(SEED), b64(SEED + PUBLIC))}

    assert len(tokens) == 1  # Ed25519 signs the same text the same way


def test_ed25519_signs_as_its_standard_says() -> None:
    """RFC 8032, 7.1, test 1."""
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")

    signature = private_key(b64(seed))[1].sign(b"")

    assert signature.hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


NO_KEYS = {
    "empty": "",
    "words": "my secret phrase",
    "31 bytes": b64(bytes(31)),
    "rsa": rsa.generate_private_key(65537, 2048).private_bytes(PEM, PKCS8, OPEN).decode(),
    "p-384": ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, SEC1, OPEN).decode(),
    "cut": SECRET[: len(SECRET) // 2],
    "encrypted": ec.generate_private_key(ec.SECP256R1())
    .private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
    .decode(),
}


@pytest.mark.parametrize("name", NO_KEYS)
def test_any_other_key_is_refused_at_the_start_and_not_quoted(name: str) -> None:
    with pytest.raises(BadKey) as refused:
        signer(NO_KEYS[name])

    text = repr(refused.value) + repr(refused.value.__context__ if not refused.value.__suppress_context__ else "")
    assert "COINBASE_API_SECRET" in text
    assert not any(line and line in text for line in NO_KEYS[name].split("\n") if "-----" not in line)


def test_a_key_without_a_name_is_refused() -> None:
    with pytest.raises(BadKey, match="COINBASE_API_KEY is empty"):
        signer(name=" ")


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_without_the_extra_packages_it_is_said_how_to_get_them(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ValueError, match=rf'\({missing} is not installed\): pip install "live-strategy-runner\[coinbase\]"$'):
        signer()


def test_a_signer_shows_nothing_of_its_key() -> None:
    made = signer()

    assert not any(
        line in repr(made) + json.dumps(repr(vars(made))) for line in SECRET.split("\n") if line and "-----" not in line
    )
