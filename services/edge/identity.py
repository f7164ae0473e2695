"""Decides who is calling from the credential that came with the request; holds no credential after that."""

import hashlib
import hmac
from collections.abc import Callable
from typing import Literal, NamedTuple

from schemas.ids import VirtualKeyId
from services.edge.headers import RawHeaders
from services.edge.registry.rights import Grant, KeyFault, restricts_models

# What the own-key hash is bound to where the operator sets no secret: it keeps a key's hash apart from
# the same key's hash elsewhere, and the same on every edge.
DEFAULT_HASH_SECRET = "tollhouse own key"
OWN_KEY_HASH_CHARS = 16
# What is shorter is no key but a word, such as "true", that other headers may carry as well.
SECRET_CHARS_MIN = 16

Refused = Literal["no_credential", "no_upstream_credential"] | KeyFault
Lookup = Callable[[str], Grant | KeyFault]
"""Finds the virtual key that a secret belongs to."""


class Caller(NamedTuple):
    """An authenticated caller; `forwards_own_credential` where the gateway has none of its own.

    With a `grant` it has shown a virtual key; without one it may do everything.
    """

    virtual_key_id: VirtualKeyId
    forwards_own_credential: bool
    grant: Grant | None = None

    @property
    def is_restricted(self) -> bool:
        """Whether there is a model that the caller may not use."""
        return self.grant is not None and restricts_models(self.grant)


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


def no_keys(_: str) -> KeyFault:
    """Know no virtual key at all."""
    return "unknown_credential"


def identify(
    credentials: Credentials,
    *,
    master_key: str,
    hash_secret: str,
    gateway_has_credential: bool,
    lookup: Lookup = no_keys,
) -> Caller | Refused:
    """Say who calls, or why nobody known does.

    With a master key every caller must show it, or a virtual key. Where the gateway has no credential for
    Anthropic the caller's own goes up; who showed no virtual key is then booked under its keyed hash.
    """
    grant: Grant | None = None
    if master_key:
        if not credentials.gateway:
            return "no_credential"
        if not is_master(credentials, master_key):
            found = lookup(credentials.gateway)
            if isinstance(found, str):
                return found
            grant = found
    if gateway_has_credential:
        booked = "master" if master_key else "anonymous"
        return Caller(grant.key.virtual_key_id if grant else VirtualKeyId(booked), False, grant)
    gateways = (master_key.encode(), credentials.gateway.encode("latin-1") if grant else b"")
    shown = (credentials.bearer, credentials.api_key)
    own = next((key for key in shown if key and key.encode("latin-1") not in gateways), "")
    if not own:
        return "no_upstream_credential" if credentials.gateway else "no_credential"
    return Caller(grant.key.virtual_key_id if grant else own_key_id(own, hash_secret), True, grant)


def is_master(credentials: Credentials, master_key: str) -> bool:
    """Say whether the master key was shown where it counts, in time that tells nothing of it."""
    return hmac.compare_digest(credentials.gateway.encode("latin-1"), master_key.encode())


def secrets_of(credentials: Credentials, caller: Caller, master_key: str) -> frozenset[bytes]:
    """Name the values that must not go upstream in any header: the gateway's key, and what was sent as it."""
    shown = credentials
    if caller.forwards_own_credential:
        shown = (credentials.gateway,) if caller.grant else ()
    secrets = {value.encode("latin-1") for value in shown if len(value) >= SECRET_CHARS_MIN}
    return frozenset(secrets | ({master_key.encode()} if master_key else set()))


def own_key_id(credential: str, hash_secret: str) -> VirtualKeyId:
    """Book a caller's own Anthropic credential under `own:` and a prefix of its keyed hash."""
    digest = hmac.new((hash_secret or DEFAULT_HASH_SECRET).encode(), credential.encode(), hashlib.sha256)
    return VirtualKeyId(f"own:{digest.hexdigest()[:OWN_KEY_HASH_CHARS]}")


def _without_scheme(value: str, *, required: bool) -> str:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return "" if required else value
