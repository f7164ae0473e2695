"""Decides which headers go up and which come down; all others pass in order, as often as they came."""

from collections.abc import Container, Iterable, Sequence

RawHeaders = Sequence[tuple[bytes, bytes]]

# RFC 9110, section 7.6.1, and the older ones that proxies still meet.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
CREDENTIALS = frozenset((b"x-api-key", b"authorization", b"x-litellm-api-key"))
# `host` is the connection's; `expect` was answered by this server; cookies are of another origin.
NOT_UP = HOP_BY_HOP | CREDENTIALS | {b"host", b"expect", b"cookie", b"forwarded", b"via"}
NOT_UP_PREFIXES = (b"x-forwarded-", b"x-tollhouse-", b"x-litellm-")
# Cloudflare's cookies and alternative services are for the origin that sent them.
NOT_DOWN = HOP_BY_HOP | {b"set-cookie", b"alt-svc"}

REQUEST_ID = b"x-tollhouse-request-id"
LITELLM_CALL_ID = b"x-litellm-call-id"


def headers_up(
    headers: RawHeaders,
    credential: RawHeaders,
    body_bytes: int | None,
    secrets: Container[bytes] = frozenset(),
) -> list[tuple[bytes, bytes]]:
    """Choose what goes upstream; `body_bytes` replaces content-length where the body was cut.

    A header whose value, or its last word, is one of `secrets` stays here whatever it is called.
    """
    dropped = NOT_UP | named_by_connection(headers)
    up: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        lower = name.lower()
        if lower in dropped or lower.startswith(NOT_UP_PREFIXES):
            continue
        if value.rpartition(b" ")[2] in secrets:
            continue
        if lower == b"content-length" and body_bytes is not None:
            value = b"%d" % body_bytes
        up.append((name, value))
    up.extend(credential)
    return up


def headers_down(headers: RawHeaders, request_id: str) -> list[tuple[bytes, bytes]]:
    """Choose what goes to the client, with the request id under both names that clients read."""
    dropped = NOT_DOWN | named_by_connection(headers)
    down = [(name, value) for name, value in headers if name.lower() not in dropped]
    down.extend(own_headers(request_id))
    return down


def own_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    """Name the exchange to the client."""
    value = request_id.encode()
    return [(REQUEST_ID, value), (LITELLM_CALL_ID, value)]


def own_credential(headers: RawHeaders, *gateway_keys: str) -> list[tuple[bytes, bytes]]:
    """Pick the caller's own credential headers; one that holds a key of the gateway's is left out."""
    secrets = [key.encode() for key in gateway_keys if key]
    return [
        (name, value)
        for name, value in headers
        if name.lower() in (b"x-api-key", b"authorization") and not any(key in value for key in secrets)
    ]


def gateway_credential(api_key: str, auth_token: str) -> list[tuple[bytes, bytes]]:
    """Write the gateway's credential as Anthropic reads it."""
    if api_key:
        return [(b"x-api-key", api_key.encode())]
    return [(b"authorization", b"Bearer " + auth_token.encode())]


def first(headers: RawHeaders, *names: bytes) -> str:
    """Give the value of the first of `names` that is there; lower-case names, as ASGI has them."""
    for wanted in names:
        for name, value in headers:
            if name == wanted:
                return _decoded(value)
    return ""


def joined(headers: RawHeaders, wanted: bytes) -> str:
    """Give the values of a list header, which may stand several times, as one."""
    return ", ".join(_decoded(value) for name, value in headers if name == wanted)


def _decoded(value: bytes) -> str:
    """Read a header's value as the UTF-8 that clients send, or else as what HTTP/1.1 once said it was.

    White space around it is no part of it (RFC 9110, section 5.5), and the server's parser leaves it behind.
    """
    value = value.strip(b" \t")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def named_by_connection(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Name the headers that a Connection header makes hop-by-hop."""
    named = [value for name, value in headers if name.lower() == b"connection"]
    return frozenset(token.strip().lower() for value in named for token in value.split(b","))
