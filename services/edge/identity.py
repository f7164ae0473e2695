"""Decides who is calling from the credential that came with the request; holds no credential after that."""

import hashlib
import hmac
from typing import Literal, NamedTuple

from schemas.ids import VirtualKeyId
from services.edge.headers import RawHeaders

# What the own-key hash is bound to where the operator sets no secret: it keeps a key's hash apart from
# the same key's hash elsewhere, and the same on every edge.
DEFAULT_HASH_SECRET = "tollhouse own key"
OWN_KEY_HASH_CHARS = 16

Refused = Literal["no_credential", "unknown_credential"]


class Caller(NamedTuple):
    """An authenticated caller; `forwards_own_credential` where the gateway has none of its own."""

    virtual_key_id: VirtualKeyId
    forwards_own_credential: bool


class Credentials(NamedTuple):
    """The credentials of one request, as they came."""

    litellm_api_key: str
    bearer: str
    api_key: str

    @property
    def gateway(self) -> str:
        """The one that is for the gateway: x-litellm-api-key, else Authorization, else x-api-key."""
        return self.litellm_api_key or self.bearer or self.api_key


def read_credentials(headers: RawHeaders) -> Credentials:
    """Find the credentials among the headers; a scheme other than Bearer is none."""
    found: dict[bytes, str] = {}
    for name, value in headers:
        if name in (b"x-litellm-api-key", b"authorization", b"x-api-key") and name not in found:
            found[name] = value.decode("latin-1").strip()
    return Credentials(
        _without_scheme(found.get(b"x-litellm-api-key", ""), required=False),
        _without_scheme(found.get(b"authorization", ""), required=True),
        found.get(b"x-api-key", ""),
    )


def identify(
    credentials: Credentials, *, master_key: str, hash_secret: str, gateway_has_credential: bool
) -> Caller | Refused:
    """Say who calls, or why nobody known does.

    With a master key every caller must show it. Where the gateway has no credential for Anthropic the
    caller's own goes up, and the caller is booked under its keyed hash.
    """
    if master_key:
        if not credentials.gateway:
            return "no_credential"
        if not hmac.compare_digest(credentials.gateway.encode("latin-1"), master_key.encode()):
            return "unknown_credential"
    if gateway_has_credential:
        return Caller(VirtualKeyId("master" if master_key else "anonymous"), False)
    own = next((key for key in (credentials.bearer, credentials.api_key) if key and key != master_key), "")
    if not own:
        return "no_credential"
    return Caller(own_key_id(own, hash_secret), True)


def own_key_id(credential: str, hash_secret: str) -> VirtualKeyId:
    """Book a caller's own Anthropic credential under `own:` and a prefix of its keyed hash."""
    digest = hmac.new((hash_secret or DEFAULT_HASH_SECRET).encode(), credential.encode(), hashlib.sha256)
    return VirtualKeyId(f"own:{digest.hexdigest()[:OWN_KEY_HASH_CHARS]}")


def _without_scheme(value: str, *, required: bool) -> str:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return "" if required else value
