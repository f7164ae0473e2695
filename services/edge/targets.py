"""Decides what a request is for from its raw path alone; never changes a byte of what goes upstream."""

import posixpath
import re
from typing import Literal, NamedTuple
from urllib.parse import unquote

from schemas.exchange import Operation

# Longer than any path of the API; what is beyond it is a mistake or an attack.
TARGET_BYTES_MAX = 8192
PREFIX = b"/anthropic"
HELLO = PREFIX + b"/api/hello"

# Servers differ in what they take for a slash, so all of them count.
_DOTS = re.compile(rb"(?:^|/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:/|\\|%2f|%5c|$)", re.IGNORECASE)

_TEMPLATES: tuple[tuple[str, Operation], ...] = (
    ("/v1/messages/count_tokens", "count_tokens"),
    ("/v1/messages/batches", "batches"),
    ("/v1/messages/batches/{id}", "batches"),
    ("/v1/messages/batches/{id}/cancel", "batches"),
    ("/v1/messages/batches/{id}/results", "batches"),
    ("/v1/models", "models"),
    ("/v1/models/{id}", "models"),
    ("/v1/files", "files"),
    ("/v1/files/{id}", "files"),
    ("/v1/files/{id}/content", "files"),
    ("/v1/skills", "skills"),
    ("/v1/skills/{id}", "skills"),
    ("/v1/skills/{id}/versions", "skills"),
    ("/v1/skills/{id}/versions/{version}", "skills"),
    ("/v1/skills/{id}/versions/{version}/content", "skills"),
)
_ROUTES: tuple[tuple[re.Pattern[str], str, Operation], ...] = tuple(
    (re.compile(re.sub(r"\{[a-z]+\}", "[^/]+", endpoint)), endpoint, operation)
    for endpoint, operation in _TEMPLATES
)
# An escaped slash stays one: it is part of an id.
_ESCAPED = re.compile(r"%(?!2[fF])[0-9a-fA-F]{2}")
_SEGMENT = re.compile(r"[a-z][a-z0-9_-]{0,63}")

BATCHES = "/v1/messages/batches"
RESULTS = "/v1/messages/batches/{id}/results"
# The id and whatever comes behind it: also a call on a batch that Anthropic may come to have.
_BELOW_BATCHES = re.compile(r"/v1/messages/batches/([A-Za-z0-9_-]{1,128})(?:/.*)?", re.DOTALL)

# TRACE asks the server to send back what it got, the gateway's credential with it; CONNECT asks for a tunnel.
_UNSERVED = ("TRACE", "CONNECT")

Fault = Literal[
    "unknown_route", "method_unserved", "target_too_long", "target_not_ascii", "target_leaves_base"
]


class Target(NamedTuple):
    """Where a request goes: `raw` is path and query for upstream's request line, byte for byte."""

    raw: bytes
    operation: Operation
    endpoint: str


def target_of(method: str, raw_path: bytes, query: bytes, base_path: bytes) -> Target | Fault:
    """Read the target of a request to `/anthropic/...` or `/v1/...`, or say why there is none.

    `base_path` is the path of the upstream's base address, without a slash at the end. Below one, a
    target with dot segments could leave it, so it is refused; below none every path is Anthropic's.
    """
    path = raw_path.removeprefix(PREFIX) if raw_path.startswith(PREFIX + b"/") else raw_path
    if path is raw_path and not raw_path.startswith(b"/v1/"):
        return "unknown_route"
    if method in _UNSERVED:
        return "method_unserved"
    if len(path) + len(query) > TARGET_BYTES_MAX:
        return "target_too_long"
    if not path.isascii() or not query.isascii():
        return "target_not_ascii"
    if base_path and has_dot_segments(path):
        return "target_leaves_base"
    operation, endpoint = _classified(method, path.decode("ascii"))
    raw = base_path + path + (b"?" + query if query else b"")
    return Target(raw, operation, endpoint)


def has_dot_segments(path: bytes) -> bool:
    """Say whether a path has segments that some server or client would take for a step up, or for none."""
    return _DOTS.search(path) is not None


def creates_batch(method: str, target: Target) -> bool:
    """Say whether this is the call that makes a message batch."""
    return method == "POST" and target.endpoint == BATCHES


def lists_batches(method: str, target: Target) -> bool:
    """Say whether an answer may list message batches; by what else upstream may take for a GET as well."""
    return method not in ("POST", "HEAD") and target.endpoint == BATCHES


def batch_id_of(target: Target) -> str | None:
    """Give the id of the batch that a call is about: None for none, "" for one that Anthropic never made."""
    path = _normal(target.raw.partition(b"?")[0].decode("ascii"))
    # A server may take an escaped slash, or a backslash, for a slash: what can be read in two ways is no id.
    lenient = unquote(path).replace("\\", "/")
    at = lenient.lower().find(BATCHES)
    if at < 0 or target.endpoint == BATCHES:
        return None
    found = _BELOW_BATCHES.fullmatch(path, at)
    return found[1] if found is not None and lenient == path else ""


def is_hello(method: str, raw_path: bytes) -> bool:
    """Say whether this is Claude Code's probe, which Anthropic answers without a credential."""
    return method in ("HEAD", "GET") and raw_path == HELLO


def _classified(method: str, given: str) -> tuple[Operation, str]:
    """Read the path as the most lenient server would: no spelling of a billed endpoint goes unmetered."""
    path = _normal(given)
    if path == "/v1/messages":
        return ("messages" if method == "POST" else "other"), path
    for pattern, endpoint, operation in _ROUTES:
        if pattern.fullmatch(path):
            return operation, endpoint
    return "other", _coarse(path)


def _normal(given: str) -> str:
    return "/" + posixpath.normpath(_ESCAPED.sub(lambda found: unquote(found[0]), given)).lstrip("/")


def _coarse(path: str) -> str:
    """Name an endpoint that we do not know by its first two segments, so that ids make no new names."""
    segments = path.split("/")[1:]
    kept = [segment if _SEGMENT.fullmatch(segment) else "*" for segment in segments[:2]]
    return "/" + "/".join([*kept, *(["*"] if len(segments) > 2 else [])])
