"""Decides the reply to one request: routes, credentials, checks, answer; holds no I/O and never raises."""

import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, unquote

import msgspec

from services.local.anthropic.directives import PLAIN, Directives, parse_directives
from services.local.anthropic.encoding import read_compressed
from services.local.anthropic.errors import ApiFault, error_body, error_headers
from services.local.anthropic.message import simulate
from services.local.anthropic.models import describe_model, list_models
from services.local.anthropic.prompt import PromptCache, count_prompt
from services.local.anthropic.reply import Header, Reply, stream_reply, whole_reply
from services.local.anthropic.request import BODY_BYTES_MAX, read_count_request, read_messages_request
from services.local.anthropic.stream import DELTA_TOKENS, PLAIN_STYLE, StreamStyle, error_event, stream_events

ORGANIZATION_ID = "510c0de5-0000-4000-8000-000000000000"
THINKING_COUNT_BETA = b"thinking-token-count-2026-05-13"
SEED_MAX = 999_999  # the digits an id has for it
QUERY_FIELDS_MAX = 100

# Limits of a large organisation. What remains is a constant: the simulation never runs out by itself.
_LIMITS = (
    (b"requests", 20_000, 19_999),
    (b"input-tokens", 20_000_000, 19_999_000),
    (b"output-tokens", 2_500_000, 2_499_000),
    (b"tokens", 22_500_000, 22_498_000),
)

_JSON: Header = (b"content-type", b"application/json")
_STREAM: tuple[Header, ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as far as its reply depends on it; header names are in lower case."""

    number: int
    method: str
    path: str
    query: bytes
    headers: Mapping[bytes, bytes]
    body: bytes


class Api:
    """The simulated API: a prompt cache, an optional required key, and rules."""

    def __init__(
        self, *, api_key: str | None = None, seed: int = 0, clock: Callable[[], float] = time.time
    ) -> None:
        assert 0 <= seed <= SEED_MAX
        self._credentials = None if api_key is None else (api_key.encode(), b"Bearer " + api_key.encode())
        self._seed = seed
        self._cache = PromptCache()
        self._clock = clock
        self._headers_second = -1
        self._headers: tuple[Header, ...] = ()

    def reply(self, call: Call) -> Reply:
        """Answer one request, refusals included."""
        directives = PLAIN
        try:
            directives = _directives(call.headers)
            if call.path == "/api/hello" and call.method in ("HEAD", "GET"):
                return whole_reply(200, self._usual_headers(call), b"", directives)
            self._authenticate(call.headers)
            if directives.status is not None:
                raise ApiFault(directives.status)
            return self._routed(call, directives)
        except ApiFault as fault:
            return self.refusal(fault, call, directives)

    def refusal(self, fault: ApiFault, call: Call, directives: Directives = PLAIN) -> Reply:
        """Write a refusal in the API's shape."""
        body = error_body(fault, self._id("req", call.number))
        headers = (_JSON, *self._usual_headers(call), *error_headers(fault, directives.retry_after))
        return whole_reply(fault.status, headers, body, directives)

    def _authenticate(self, headers: Mapping[bytes, bytes]) -> None:
        key, bearer = headers.get(b"x-api-key"), headers.get(b"authorization")
        if key is None and (bearer is None or not bearer.startswith(b"Bearer ")):
            raise ApiFault(401, "x-api-key header is required")
        if self._credentials is None:
            return
        if key is not None and key != self._credentials[0]:
            raise ApiFault(401, "invalid x-api-key")
        if key is None and bearer != self._credentials[1]:
            raise ApiFault(401, "Invalid bearer token")

    def _routed(self, call: Call, directives: Directives) -> Reply:
        route = (call.method, call.path)
        version = call.headers.get(b"anthropic-version")
        if version is None:
            raise ApiFault(400, "anthropic-version: header is required")
        if route == ("POST", "/v1/messages"):
            return self._messages(call, directives, version.decode("latin-1"))
        if route == ("POST", "/v1/messages/count_tokens"):
            request = read_count_request(_plain_body(call))
            return self._json(call, {"input_tokens": count_prompt(request)}, directives)
        if route == ("GET", "/v1/models"):
            return self._json(call, list_models(_query(call.query)), directives)
        if call.method == "GET" and call.path.startswith("/v1/models/"):
            model = describe_model(unquote(call.path.removeprefix("/v1/models/")))
            return self._json(call, model, directives)
        raise ApiFault(404)

    def _messages(self, call: Call, directives: Directives, version: str) -> Reply:
        request, model = read_messages_request(_plain_body(call), version)
        message_id = self._id("msg", call.number)
        simulated = simulate(request, model, directives, self._cache, call.number, message_id)
        if not request.stream:
            return self._json(call, simulated.message, directives)
        events = stream_events(simulated, _style(call.headers, directives), call.number)
        failure = None
        if directives.error_event_after is not None:
            failure = error_event(ApiFault(529), self._id("req", call.number))
        return stream_reply((*_STREAM, *self._usual_headers(call)), events, failure, directives)

    def _json(self, call: Call, body: object, directives: Directives) -> Reply:
        return whole_reply(200, (_JSON, *self._usual_headers(call)), _encode(body), directives)

    def _id(self, kind: str, number: int) -> str:
        return f"{kind}_01{self._seed:06d}{number:016d}"

    def _usual_headers(self, call: Call) -> tuple[Header, ...]:
        second = int(self._clock())
        if second != self._headers_second:
            self._headers, self._headers_second = _rate_limit_headers(second), second
        return ((b"request-id", self._id("req", call.number).encode()), *self._headers)


_encode = msgspec.json.Encoder().encode


def _rate_limit_headers(second: int) -> tuple[Header, ...]:
    reset = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)).encode()
    headers: list[Header] = [(b"anthropic-organization-id", ORGANIZATION_ID.encode())]
    for kind, limit, remaining in _LIMITS:
        headers.append((b"anthropic-ratelimit-%s-limit" % kind, b"%d" % limit))
        headers.append((b"anthropic-ratelimit-%s-remaining" % kind, b"%d" % remaining))
        headers.append((b"anthropic-ratelimit-%s-reset" % kind, reset))
    headers.append((b"vary", b"Accept-Encoding"))
    return tuple(headers)


def _directives(headers: Mapping[bytes, bytes]) -> Directives:
    spec = headers.get(b"x-simulate")
    if spec is None:
        return PLAIN
    directives = parse_directives(spec.decode("latin-1"))
    retries = headers.get(b"x-stainless-retry-count", b"0")
    attempts_before = int(retries) if retries.isdigit() and len(retries) < 10 else 0
    if directives.times is not None and attempts_before >= directives.times:
        return PLAIN
    return directives


def _style(headers: Mapping[bytes, bytes], directives: Directives) -> StreamStyle:
    counts_thinking = THINKING_COUNT_BETA in headers.get(b"anthropic-beta", b"")
    if directives.delta_tokens is None and not counts_thinking:
        return PLAIN_STYLE
    return StreamStyle(delta_tokens=directives.delta_tokens or DELTA_TOKENS, counts_thinking=counts_thinking)


def _plain_body(call: Call) -> bytes:
    if len(call.body) > BODY_BYTES_MAX:
        raise ApiFault(413)
    coding = call.headers.get(b"content-encoding")
    return call.body if coding is None else read_compressed(call.body, coding.decode("latin-1").lower())


def _query(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as exc:
        raise ApiFault(400, "Too many query parameters") from exc
