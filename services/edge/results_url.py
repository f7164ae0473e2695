"""Points `results_url` in the batch objects of an answer to this gateway; changes no byte but those of it.

SDKs follow that address with the key that they were given for the gateway. One that leads elsewhere would
carry that key there, and the results, where a batch's usage is, past the meter: so a value that cannot be
pointed here is an error, and never passes.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from schemas.codec import UNREADABLE
from schemas.exchange import Operation
from services.edge.headers import RawHeaders
from services.edge.targets import PREFIX, RESULTS, has_dot_segments

# Of an answer that is held back to be rewritten: a page of 1,000 batches is below 1 MB.
BATCH_BYTES_MAX = 4 * 1024 * 1024
# Rewriting takes some 10 ms a MiB: longer answers are rewritten beside the event loop.
REWRITE_ON_LOOP_BYTES_MAX = 128 * 1024
# Whatever the upstream's address, a proxy there may pass Anthropic's own on.
ANTHROPIC = "https://api.anthropic.com"

_KEY = "results_url"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Every string of a document in turn, and with a member's key its value if that is a string too.
_STRINGS = re.compile(rb"(%s)(?:\s*+:\s*+(%s))?" % (_STRING, _STRING), re.DOTALL)
# RFC 3986: a name, an IPv4 or a bracketed IPv6 address, and perhaps a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
# What may stand in an address, written in JSON as it is.
ADDRESS = re.compile(r"[!#-\[\]-~]*")
_PORTS = {"http": 80, "https": 443}


class CannotRewrite(Exception):
    """The answer must not pass: it would send the caller's key elsewhere, or nobody can tell where."""


class Links(NamedTuple):
    """The base addresses of both sides, without a slash at the end: upstream's, and ours to the client."""

    upstream: str
    gateway: str


def carries_results_url(operation: Operation, endpoint: str) -> bool:
    """Say whether an answer holds batch objects; results themselves are lines of messages, and pass."""
    return operation == "batches" and endpoint != RESULTS


def gateway_address(scope: Mapping[str, Any]) -> str | None:
    """Give the base address under which a client has reached this gateway; None where its Host names none.

    What proxies add (`x-forwarded-*`) is not believed: anybody can write it.
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if not hosts and scope.get("server"):  # HTTP/1.0 has none
        address, port = scope["server"]
        hosts = [(f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()]
    if len(hosts) != 1 or not _HOST.fullmatch(hosts[0]):
        return None
    prefix = PREFIX.decode() if scope["raw_path"].startswith(PREFIX + b"/") else ""
    return f"{scope['scheme']}://{hosts[0].decode()}{prefix}"


def asking_for_identity(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Ask upstream for an answer without a coding, in place of what the client accepts."""
    others = [(name, value) for name, value in headers if name.lower() != b"accept-encoding"]
    return [*others, (b"accept-encoding", b"identity")]


def with_length(headers: Sequence[tuple[bytes, bytes]], body_bytes: int) -> list[tuple[bytes, bytes]]:
    """Let content-length, where there is one, follow the body."""
    length = b"%d" % body_bytes
    return [(name, length if name.lower() == b"content-length" else value) for name, value in headers]


def rewritten(body: bytes, links: Links) -> bytes:
    """Point every `results_url` of a JSON document to the gateway; CannotRewrite where that cannot be done.

    It is looked for at any depth: in a batch, in the batches of a page, and wherever else it may come to be.
    """
    if not body:
        return body
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNREADABLE as exc:
        raise CannotRewrite("no JSON") from exc
    pieces: list[bytes] = []
    kept_to = 0
    for found in _STRINGS.finditer(body):
        if found[2] is None or not _is_key(found[1]):
            continue
        pieces += (body[kept_to : found.start(2)], b'"%s"' % _value_here(found[2], links).encode())
        kept_to = found.end(2)
    return b"".join((*pieces, body[kept_to:])) if pieces else body


def _is_key(token: bytes) -> bool:
    if b"\\" not in token:
        return token == b'"%s"' % _KEY.encode()
    try:
        return msgspec.json.decode(token) == _KEY
    except UNREADABLE:
        return False


def _value_here(token: bytes, links: Links) -> str:
    """Give the value that replaces one; an address without a host is the gateway's already."""
    try:
        value = msgspec.json.decode(token, type=str)
    except UNREADABLE as exc:
        raise CannotRewrite("no address") from exc
    if value.startswith("/") and not value.startswith("//") and ADDRESS.fullmatch(value):
        return value
    return pointed_here(value, links)


def pointed_here(address: str, links: Links) -> str:
    """Give the gateway's own address for one below upstream's; CannotRewrite for any other."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as exc:
        raise CannotRewrite("no address") from exc
    if not ADDRESS.fullmatch(address) or "@" in parts.netloc or has_dot_segments(parts.path.encode()):
        raise CannotRewrite("no address")
    # What comes behind the host, as it was written.
    rest = address[len(parts.scheme) + len("://") + len(parts.netloc) :]
    for base in (links.upstream, ANTHROPIC):
        ours = urlsplit(base)
        below = ours.path.rstrip("/")
        if _origin(parts) == _origin(ours) and rest.startswith(below + "/"):
            return links.gateway + rest.removeprefix(below)
    raise CannotRewrite(parts.hostname or "no host")


def _origin(parts: SplitResult) -> tuple[str, str, int | None]:
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
