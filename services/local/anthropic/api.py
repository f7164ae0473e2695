"""Decides the reply to one request: routes, credentials, checks, answer; never raises and awaits nothing."""

import time
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import msgspec

from services.local.anthropic.batches import Batches, NewBatch
from services.local.anthropic.books import Books, Served
from services.local.anthropic.call import Call
from services.local.anthropic.clock import Clock, SimulatedClock
from services.local.anthropic.directives import PLAIN, Directives, parse_directives
from services.local.anthropic.errors import ApiFault, error_body, error_headers
from services.local.anthropic.files import Files
from services.local.anthropic.message import simulate
from services.local.anthropic.models import describe_model, list_models
from services.local.anthropic.prompt import PromptCache, count_prompt
from services.local.anthropic.reply import Download, Header, Reply, download_reply, stream_reply, whole_reply
from services.local.anthropic.request import read_count_request, read_messages_request
from services.local.anthropic.storage import Storage
from services.local.anthropic.stream import DELTA_TOKENS, PLAIN_STYLE, StreamStyle, error_event, stream_events

ORGANIZATION_ID = "510c0de5-0000-4000-8000-000000000000"
THINKING_COUNT_BETA = b"thinking-token-count-2026-05-13"
SEED_MAX = 999_999  # the digits an id has for it
BASE_URL = "http://simulated"  # where nothing listens
BATCHES_PATH = "/v1/messages/batches"
FILES_PATH = "/v1/files"
CONTROL_PATH = "/simulation/"
ADVANCE_DIGITS_MAX = 9  # thirty years
JSON_LINES = b"application/x-jsonl"

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


class Api:
    """The simulated API: rules, an optional required key, a prompt cache, batches, files and books."""

    def __init__(
        self,
        *,
        api_key: str | None = None,
        seed: int = 0,
        clock: Clock = time.time,
        base_url: str = BASE_URL,
    ) -> None:
        assert 0 <= seed <= SEED_MAX
        self._credentials = None if api_key is None else (api_key.encode(), b"Bearer " + api_key.encode())
        self._seed = seed
        self._cache = PromptCache()
        self._clock = SimulatedClock(clock)
        self._base_url = base_url
        storage = Storage()
        self._books = Books()
        self._batches = Batches(seed=seed, clock=self._clock, storage=storage, books=self._books)
        self._files = Files(seed=seed, clock=self._clock, storage=storage)
        self._headers_second = -1
        self._headers: tuple[Header, ...] = ()

    def reply(self, call: Call) -> Reply:
        """Answer one request, refusals included."""
        directives = PLAIN
        try:
            directives = _directives(call.headers)
            if call.path == "/api/hello" and call.method in ("HEAD", "GET"):
                return whole_reply(200, self._usual_headers(call), b"", directives)
            if call.path.startswith(CONTROL_PATH):
                return self._found(call, self._controlled(call), directives)
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

    def served(self) -> Iterator[Served]:
        """Tell what would be on the bill: messages in the order of their requests, then batch items."""
        yield from list(self._books.entries)
        yield from self._batches.served()

    def advance(self, seconds: float) -> None:
        """Put the clock forward."""
        self._clock.advance(seconds)

    def finish_batch(self, batch_id: str) -> None:
        """Bring a batch to its end now."""
        self._batches.finish(batch_id, self._base_url)

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
            request = read_count_request(bytes(call.plain_body()))
            return self._json(call, {"input_tokens": count_prompt(request)}, directives)
        if route == ("GET", "/v1/models"):
            return self._json(call, list_models(call.fields()), directives)
        if call.method == "GET" and call.path.startswith("/v1/models/"):
            model = describe_model(unquote(call.path.removeprefix("/v1/models/")))
            return self._json(call, model, directives)
        for root, answered in ((BATCHES_PATH, self._of_batches), (FILES_PATH, self._of_files)):
            if call.path == root or call.path.startswith(root + "/"):
                found = answered(call, call.path.removeprefix(root), directives, version.decode("latin-1"))
                return self._found(call, found, directives)
        raise ApiFault(404)

    def _controlled(self, call: Call) -> object:
        """Answer a call that steers the simulation from outside its process; the real API has none such."""
        place = call.path.removeprefix(CONTROL_PATH)
        if (call.method, place) == ("GET", "served"):
            return Download(content_type=JSON_LINES, pieces=(_encode(one) + b"\n" for one in self.served()))
        if (call.method, place) == ("POST", "advance"):
            seconds = call.fields().get("seconds", [""])[0]
            if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= ADVANCE_DIGITS_MAX):
                raise ApiFault(400, "seconds: Input should be a whole number")
            self.advance(int(seconds))
            return {"now": self._clock()}
        batch_id = place.removeprefix("batches/").removesuffix("/finish")
        if (call.method, place) == ("POST", f"batches/{batch_id}/finish"):
            return self._batches.finish(batch_id, self._base_url)
        raise ApiFault(404)

    def _of_batches(self, call: Call, place: str, directives: Directives, version: str) -> object:
        """Answer a call below the batches; `place` is what follows their path."""
        batches, base_url = self._batches, self._base_url
        batch_id, _, verb = place.removeprefix("/").partition("/")
        match call.method, bool(batch_id), verb:
            case "POST", False, "":
                new = NewBatch(number=call.number, api_version=version, directives=directives)
                return batches.create(new, call.plain_body(), base_url)
            case "GET", False, "":
                return batches.list(call.fields(), base_url)
            case "GET", True, "":
                return batches.show(batch_id, base_url)
            case "DELETE", True, "":
                return batches.delete(batch_id)
            case "POST", True, "cancel":
                return batches.cancel(batch_id, base_url)
            case "GET", True, "results":
                return Download(content_type=JSON_LINES, pieces=batches.results(batch_id))
            case _:
                raise ApiFault(404)

    def _of_files(self, call: Call, place: str, directives: Directives, version: str) -> object:
        """Answer a call below the files; `place` is what follows their path."""
        file_id, _, verb = place.removeprefix("/").partition("/")
        match call.method, bool(file_id), verb:
            case "POST", False, "":
                kind = call.headers.get(b"content-type", b"").decode("latin-1")
                return self._files.upload(call.number, call.plain_body(), kind)
            case "GET", False, "":
                return self._files.list(call.fields())
            case "GET", True, "":
                return self._files.show(file_id)
            case "GET", True, "content":
                return self._files.content(file_id)
            case "DELETE", True, "":
                return self._files.delete(file_id)
            case _:
                raise ApiFault(404)

    def _messages(self, call: Call, directives: Directives, version: str) -> Reply:
        request, model = read_messages_request(bytes(call.plain_body()), version)
        message_id = self._id("msg", call.number)
        simulated = simulate(request, model, directives, self._cache, call.number, message_id)
        message = simulated.message
        self._books.add(
            Served(
                message_id=message.id,
                model=message.model,
                usage=message.usage,
                stop_reason=message.stop_reason,
            )
        )
        if not request.stream:
            return self._json(call, message, directives)
        events = stream_events(simulated, _style(call.headers, directives), call.number)
        failure = None
        if directives.error_event_after is not None:
            failure = error_event(ApiFault(529), self._id("req", call.number))
        return stream_reply((*_STREAM, *self._usual_headers(call)), events, failure, directives)

    def _found(self, call: Call, found: object, directives: Directives) -> Reply:
        if isinstance(found, Download):
            return download_reply(200, self._usual_headers(call), found, directives)
        return self._json(call, found, directives)

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
