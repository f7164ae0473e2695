"""No client can tell the gateway from the API: one table of requests, sent both ways and compared."""

import gzip
import json
import zlib
from typing import NamedTuple

import pytest

from services.local.anthropic.reply import CannedReply
from tests.conformance.sides import CALLER_KEY, Sent

KEY = (b"X-Api-Key", CALLER_KEY)
VERSION = (b"Anthropic-Version", b"2023-06-01")
NEWEST = (b"Anthropic-Version", b"2026-10-21")
JSON = (b"Content-Type", b"application/json")
USUAL = (KEY, VERSION)
MESSAGES = b"/v1/messages"
ASK = {
    "model": "claude-haiku-5-5",
    "max_tokens": 400,
    "messages": [{"role": "user", "content": "What passed?"}],
}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"place": {}}, "required": ["place"]},
}
SEARCH = {"type": "web_search_20260209", "name": "web_search"}
CODINGS = ("gzip", "deflate", "br", "zstd")
ERROR_STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 503, 504, 529)


class Case(NamedTuple):
    """A request and, where the simulation is not to answer by itself, what both sides answer."""

    sent: Sent
    canned: CannedReply | None = None


def post(spec="", *headers, body=None, framing="content-length", target=MESSAGES, **changes):
    """A message, or whatever body is given."""
    scripted = ((b"X-Simulate", spec.encode()),) if spec else ()
    content = json.dumps(ASK | changes).encode() if body is None else body
    return Case(Sent(b"POST", target, (*USUAL, JSON, *scripted, *headers), content, framing))


def old(case):
    """The same from a client of HTTP/1.0."""
    return case._replace(sent=case.sent._replace(version=b"1.0"))


def get(target, *headers, method=b"GET", canned=None):
    return Case(Sent(method, target, (*USUAL, *headers), framing="none"), canned)


def answer(*headers, status=200, chunks=(), method=b"GET"):
    """An answer that both sides give, whatever is asked."""
    return get(b"/v1/odd", method=method, canned=CannedReply(status=status, headers=headers, chunks=chunks))


def length(count):
    return (b"content-length", b"%d" % count)


GZIPPED = (b"Content-Encoding", b"gzip")
FORM = (b"Content-Type", b"multipart/form-data; boundary=x")
UPLOAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n--x--\r\n'

CASES = {
    # Messages and counts
    "message": post(),
    "message with a bearer": Case(
        Sent(b"POST", MESSAGES, ((b"AUTHORIZATION", b"bEaReR k"), KEY, VERSION), json.dumps(ASK).encode())
    ),
    "message beta": post(target=MESSAGES + b"?beta=true"),
    "message thinking": post(thinking={"type": "adaptive"}),
    "message tool": post(tools=[WEATHER], tool_choice={"type": "any"}),
    "message search": post("web-searches=2", tools=[SEARCH]),
    "message cached": post(
        system=[{"type": "text", "text": "x" * 99, "cache_control": {"type": "ephemeral"}}]
    ),
    "message refused": post("refuse"),
    "message iterations": post("iterations=compaction"),
    "message fallback": post("iterations=fallback"),
    "message in small chunks": post("chunk-bytes=7"),
    "message in the newest version": Case(
        Sent(b"POST", MESSAGES, (KEY, NEWEST), json.dumps(ASK | {"top_k": 1}).encode())
    ),
    "message with unknown members": post(unknown={"nested": [1, 2.50, 1e2, None]}),
    "message with escapes": post(body=json.dumps(ASK).replace("What", "\\u0057hat\\/").encode()),
    "message long": post(system="long " * 60_000),
    "message slow": post("latency-ms=50;chunk-delay-ms=20;chunk-bytes=100"),
    "count_tokens": post(target=MESSAGES + b"/count_tokens"),
    # Streams
    "stream": post(stream=True),
    "stream thinking": post(
        stream=True, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000
    ),
    "stream omitted thinking": post(
        "thinking-tokens=90",
        (b"Anthropic-Beta", b"thinking-token-count-2026-05-13"),
        stream=True,
        thinking={"type": "adaptive", "display": "omitted"},
    ),
    "stream tool": post(stream=True, tools=[WEATHER], tool_choice={"type": "any"}),
    "stream search": post(stream=True, tools=[SEARCH]),
    "stream refused midway": post("refuse-after-tokens=5", stream=True),
    "stream advisor": post("iterations=advisor", stream=True),
    "stream fallback": post("iterations=fallback", stream=True),
    "stream long": post("output-tokens=5000;delta-tokens=3", stream=True, max_tokens=5000),
    "stream byte by byte": post("chunk-bytes=1", stream=True),
    "stream in odd chunks": post("chunk-bytes=17", stream=True),
    "stream in one chunk": post("chunk-bytes=100000", stream=True),
    "stream with an error": post("error-event-after=3", stream=True),
    # Every coding, asked for or not
    **{f"message {coding}": post(coding) for coding in CODINGS},
    **{f"stream {coding}": post(coding, stream=True) for coding in CODINGS},
    **{f"stream {coding} in chunks": post(f"{coding};chunk-bytes=5", stream=True) for coding in CODINGS},
    "error gzip": post("gzip;status=429"),
    "coding unknown to us": answer(
        length(4),
        (b"content-encoding", b"dcb"),
        (b"content-type", b"application/json"),
        chunks=(b"\x00\xffzz",),
    ),
    "coding that is not what it says": answer(length(4), (b"content-encoding", b"gzip"), chunks=(b"none",)),
    # Errors
    **{f"error {status}": post(f"status={status}") for status in ERROR_STATUSES},
    **{f"stream error {status}": post(f"status={status}", stream=True) for status in (400, 429, 529)},
    "error with a wait": post("status=529;retry-after=7"),
    "error in no JSON": answer(
        length(5),
        (b"content-type", b"text/html"),
        (b"retry-after-ms", b"250"),
        status=502,
        chunks=(b"<p>no",),
    ),
    "error without a body": answer(length(0), status=500),
    "error of no known status": answer(length(0), (b"x-should-retry", b"true"), status=599),
    "body no JSON": post(body=b"{nope"),
    "body empty": post(body=b""),
    "body of no model": post(model="claude-none"),
    "no version": Case(Sent(b"POST", MESSAGES, (KEY, JSON), json.dumps(ASK).encode())),
    "method that is not": get(MESSAGES, method=b"GET"),
    # Other endpoints, known and unknown
    "models": get(b"/v1/models"),
    "models page": get(b"/v1/models?limit=3&after_id=claude-haiku-5-5"),
    "models lifecycle": get(b"/v1/models?lifecycle[]=retired&lifecycle[]=active&limit=1000"),
    "model": get(b"/v1/models/claude-opus-5-5"),
    "model unknown": get(b"/v1/models/gpt"),
    "unknown endpoint": get(b"/v1/things/of/tomorrow"),
    "unknown method": get(b"/v1/things", method=b"PROPFIND"),
    "batches none": get(b"/v1/messages/batches?limit=2"),
    "batch unknown": get(b"/v1/messages/batches/msgbatch_no"),
    "batch refused": post(target=b"/v1/messages/batches", body=b'{"requests":[]}'),
    "file unknown": get(b"/v1/files/file_no/content"),
    "upload": Case(Sent(b"POST", b"/v1/files", (*USUAL, FORM), UPLOAD % (b"\x00\xff" * 9_000))),
    "upload in chunks": Case(
        Sent(b"POST", b"/v1/files", (*USUAL, FORM), UPLOAD % (b"y" * 90_000), "chunked")
    ),
    "upload of no file": Case(Sent(b"POST", b"/v1/files", (*USUAL, FORM), b"--x--")),
    # Methods, statuses, targets
    "head": get(b"/v1/models", method=b"HEAD"),
    "head with a length": answer(length(123), method=b"HEAD"),
    "options": answer(length(0), (b"allow", b"GET, OPTIONS"), method=b"OPTIONS"),
    "delete": answer(length(2), chunks=(b"{}",), method=b"DELETE"),
    "patch": Case(Sent(b"PATCH", b"/v1/things", (*USUAL, JSON), b'{"a":1}')),
    **{f"status {status}": answer(status=status) for status in (204, 304)},
    **{f"status {status} with a length": answer(length(0), status=status) for status in (200, 201, 205)},
    "redirect to nowhere": answer(length(0), status=307),
    "a location that nobody follows": answer((b"location", b"https://else.example/"), length(0), status=201),
    "repeated parameters": get(b"/v1/models?limit=1&limit=2&a=&a&b=%20+"),
    "encoded path": get(b"/v1/models/a%2Fb%20c%25?x=%2F%zz"),
    "dots and slashes": get(b"/v1//models/../x/./y//"),
    # Headers
    "duplicate headers up": get(
        b"/v1/models",
        (b"X-Two", b"1"),
        (b"anthropic-beta", b"a"),
        (b"x-two", b"2"),
        (b"Anthropic-Beta", b"b,c"),
    ),
    "duplicate headers down": answer(
        (b"vary", b"Origin"), (b"x-two", b"1"), (b"vary", b"Accept"), (b"x-two", b"1"), length(0)
    ),
    "headers that stay here": get(
        b"/v1/models",
        (b"Cookie", b"a=1"),
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"Forwarded", b"for=1"),
        (b"Via", b"1.1 x"),
        (b"TE", b"trailers"),
        (b"X-Litellm-Tags", b"a"),
        (b"X-Tollhouse-Any", b"1"),
    ),
    "cookies stay there": answer(length(0), (b"set-cookie", b"a=1"), (b"alt-svc", b"h3"), (b"server", b"x")),
    "empty and odd values": answer(
        (b"x-empty", b""), (b"x-latin", b"\xe9\xff"), (b"x-quote", b'"a;b, c"'), length(0)
    ),
    # Framing
    "answer in chunks": answer(chunks=(b"one", b"two" * 9_000, b"3")),
    "answer in chunks without any": answer((b"content-type", b"text/plain")),
    "request in chunks": post(framing="chunked"),
    "stream request in chunks": post(framing="chunked", stream=True),
    "expect continue": post("", (b"Expect", b"100-continue")),
    "http 1.0": old(post()),
    "http 1.0 stream": old(post(stream=True)),
    "gzip request": post("", GZIPPED, body=gzip.compress(json.dumps(ASK).encode(), mtime=0)),
    "gzip stream request": post(
        "", GZIPPED, body=gzip.compress(json.dumps(ASK | {"stream": True}).encode(), mtime=0)
    ),
    "deflate request": post(
        "", (b"Content-Encoding", b"deflate"), body=zlib.compress(json.dumps(ASK).encode())
    ),
    "request in a coding nobody knows": post("", (b"Content-Encoding", b"rot13"), body=b"ebg"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_answer_and_the_request_are_the_same(sides, case):
    if case.canned is not None:
        sides.reply_next(case.canned)
    straight, through = sides.ask(case.sent, b"/anthropic")
    assert through == straight
    assert straight.is_whole
    straight_up, through_up = sides.received()
    assert through_up == straight_up


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_upstream_cuts_is_cut_here(sides, status):
    sides.reply_next(CannedReply(status=status, headers=(length(10),), chunks=(b"half",), ending="cut"))
    straight, through = sides.ask(Sent(b"GET", b"/v1/odd", USUAL, framing="none"))
    assert (through, straight.is_whole) == (straight, False)


@pytest.mark.parametrize("spec", ["cut-after-events=4", "cut-after-bytes=500"])
def test_a_stream_that_upstream_cuts_ends_with_an_error_here(sides, spec):
    """The documented exception: SDKs take a stream that merely stops for a whole one."""
    straight, through = sides.ask(post(spec, stream=True).sent)
    assert (straight.is_whole, through.is_whole) == (False, True)
    assert through.body.startswith(straight.body)
    told = through.body[len(straight.body) :]
    name, data = told.lstrip(b"\n").removesuffix(b"\n\n").split(b"\n")
    assert name == b"event: error"
    assert json.loads(data.removeprefix(b"data: "))["type"] == "error"


def test_requests_that_follow_one_another_on_one_connection_are_answered_in_order(sides):
    follow = [post(max_tokens=count).sent for count in (3, 200, 7)]
    straight, through = sides.ask_in_a_row(follow)
    assert through == straight
    assert straight.count(b"HTTP/1.1 200 OK") == len(follow)
