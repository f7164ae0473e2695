"""Clients of every age and temper: each gets HTTP that it knows, and none costs more than its connection."""

import asyncio
import contextlib
import gc
import random

import pytest
from prometheus_client import REGISTRY

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from services.runtime.http_protocol import BoundedProtocol, ConnectionLimits
from tests.integration.edge.harness import Edge, RawClient, exchange
from tests.integration.runtime import brokers

KEYED = b"host: e\r\nx-api-key: k\r\n"
TEXT = ((b"content-type", b"text/plain"),)
OPEN_ENDED = CannedReply(headers=TEXT, chunks=(b"one", b"two"))
KIB = 1024


@pytest.fixture(autouse=True)
def nothing_left(edge):
    """What a test leaves untaken is no other test's."""
    yield
    edge.pass_over()


def said(edge, request):
    """Everything that is answered to these bytes until the edge closes the connection."""
    client = RawClient(edge)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send(request)
    with contextlib.suppress(ConnectionResetError):
        client.read_to_end()
    client.leave()
    return client.received


def cut(reason):
    return REGISTRY.get_sample_value("http_connections_cut_total", {"reason": reason}) or 0.0


@pytest.mark.parametrize("resetting", [False, True])
def test_a_client_that_hangs_up_leaves_nothing_of_its_connection(resetting, edge, upstream):
    before = connections_in_memory()
    clients = [RawClient(edge) for _ in range(5)]
    for each in clients:
        upstream.reply_next(OPEN_ENDED)
        each.send(b"GET /v1/models HTTP/1.1\r\n" + KEYED + b"\r\n")
        each.read_until(b"0\r\n\r\n")
        each.leave(resetting=resetting)
    asyncio.run(brokers.until(lambda: connections_in_memory() <= before, 20.0))


def connections_in_memory():
    gc.collect()
    return sum(isinstance(each, BoundedProtocol) for each in gc.get_objects())


@pytest.mark.parametrize("connection", [b"", b"connection: keep-alive\r\n"])
def test_an_answer_to_http_1_0_has_no_chunks_and_ends_with_the_connection(connection, edge, upstream):
    upstream.reply_next(OPEN_ENDED)
    head, _, body = said(edge, b"GET /v1/models HTTP/1.0\r\n" + KEYED + connection + b"\r\n").partition(
        b"\r\n\r\n"
    )
    assert (b"transfer-encoding" in head, head.endswith(b"connection: close"), body) == (
        False,
        True,
        b"onetwo",
    )
    assert edge.take_one().used.outcome == "completed"


def test_an_answer_to_http_1_0_keeps_the_length_that_it_has(edge, upstream):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"6"),), chunks=(b"one", b"two")))
    head, _, body = said(
        edge, b"POST /v1/messages HTTP/1.0\r\n" + KEYED + b"content-length: 2\r\n\r\n{}"
    ).partition(b"\r\n\r\n")
    assert (b"content-length: 6\r\n" in head, body) == (True, b"onetwo")
    assert upstream.received[-1].body == b"{}"


def test_a_refusal_reaches_http_1_0_whole(edge):
    answer = said(edge, b"GET /elsewhere HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b'"}')


def test_requests_in_one_write_are_answered_in_their_order(edge, upstream):
    for number in range(4):
        upstream.reply_next(CannedReply(headers=((b"content-length", b"1"),), chunks=(b"%d" % number,)))
    one = b"POST /v1/messages HTTP/1.1\r\ncontent-length: %d\r\n" + KEYED + b"\r\n%s"
    bodies = [b'{"n":%d}' % number for number in range(3)]
    last = b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n" + KEYED + b"\r\n"
    answer = said(edge, b"".join(one % (len(body), body) for body in bodies) + last)
    assert [piece[-1:] for piece in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"0", b"1", b"2", b"3"]
    assert [each.body for each in list(upstream.received)[-4:]] == [*bodies, b""]
    assert [each.used.outcome for each in edge.take()] == ["completed"] * 4


def test_a_connection_serves_one_request_after_another(edge, upstream):
    client = RawClient(edge)
    for number in range(3):
        upstream.reply_next(CannedReply(headers=((b"content-length", b"2"),), chunks=(b"%dx" % number,)))
        client.post(b"/v1/messages", b"{}", b"x-api-key: k")
        client.read_until(b"\r\n\r\n%dx" % number)
    client.leave()
    assert len(edge.take()) == 3


def test_a_304_with_the_length_of_what_it_does_not_send_leaves_the_connection_open(edge, upstream):
    client = RawClient(edge)
    for number in range(2):
        headers = ((b"content-length", b"5"), (b"x-number", b"%d" % number))
        upstream.reply_next(CannedReply(status=304, headers=headers))
        client.send(b"GET /v1/models HTTP/1.1\r\n" + KEYED + b"\r\n")
        client.read_until(b"content-length: 5\r\nx-number: %d\r\n" % number)
        client.read_until(b"\r\n\r\n")
        client.received = b""
    client.leave()
    assert [each.used.http_status for each in edge.take()] == [304, 304]


UPGRADE = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"


@pytest.mark.parametrize(
    "framed",
    [
        b'content-length: 7\r\n%s\r\n{"a":1}',
        b'transfer-encoding: chunked\r\n%s\r\n3\r\n{"a\r\n4\r\n":1}\r\n0\r\n\r\n',
    ],
)
def test_the_body_behind_an_offer_of_http_2_is_not_lost(framed, edge, upstream):
    """Java's client makes that offer with the first request of every connection without TLS."""
    for _ in range(2):
        upstream.reply_next(CannedReply(headers=((b"content-length", b"2"),), chunks=(b"ok",)))
    offered = b"POST /v1/messages HTTP/1.1\r\n" + UPGRADE + framed % KEYED
    after = b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n" + KEYED + b"\r\n"
    for answer in (said(edge, offered + after), said_slowly(edge, upstream, offered, after)):
        assert answer.count(b"HTTP/1.1 200 OK") == 2
    posted = [each for each in list(upstream.received)[-4:] if each.method == "POST"]
    assert [each.body for each in posted] == [b'{"a":1}'] * 2
    dropped = {b"upgrade", b"http2-settings", b"connection"}
    assert dropped.isdisjoint(name.lower() for name, _ in posted[0].headers)


def said_slowly(edge, upstream, offered, after):
    for _ in range(2):
        upstream.reply_next(CannedReply(headers=((b"content-length", b"2"),), chunks=(b"ok",)))
    client = RawClient(edge)
    for byte in offered:
        client.send(bytes([byte]))
    client.read_until(b"\r\n\r\nok")
    client.send(after)
    client.read_to_end()
    client.leave()
    return client.received


@pytest.mark.parametrize("method", ["PATCH", "PUT", "POST", "DELETE", "OPTIONS"])
def test_a_body_goes_up_with_every_method(method, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    exchange(client, method, edge.base_url + "/v1/agents/a_1?beta=true", {"x-api-key": "k"}, b'{"x": 1}')
    up = upstream.received[-1]
    assert (up.method, up.target, up.body) == (method, b"/v1/agents/a_1?beta=true", b'{"x": 1}')


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_empty_body_goes_up_as_one(method, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    exchange(client, method, edge.base_url + "/v1/agents", {"x-api-key": "k", "content-length": "0"})
    up = upstream.received[-1]
    lengths = [value for name, value in up.headers if name.lower() == b"content-length"]
    assert (up.body, lengths) == (b"", [b"0"])


@pytest.mark.parametrize(
    "probe",
    [
        b"HEAD /anthropic/api/hello",
        b"GET /anthropic/v1/models?limit=1000",
        b"GET /v1/models?beta=true&beta=true",
    ],
)
def test_the_probes_of_claude_code_go_up_as_they_are(probe, edge, upstream):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    answer = said(edge, probe + b" HTTP/1.1\r\nconnection: close\r\n" + KEYED + b"\r\n")
    up = upstream.received[-1]
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"%s %s" % (up.method.encode(), up.target) == probe.replace(b"/anthropic", b"")


NOT_HTTP = [
    b"BREW /v1/models HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"GET /v1/models HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n" + KEYED + b"\r\n{}",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n" + KEYED + b"\r\n{}",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: -1\r\n" + KEYED + b"\r\n{}",
]


@pytest.mark.parametrize("request_bytes", NOT_HTTP, ids=lambda each: repr(each[:30]))
def test_what_is_no_http_is_a_400_and_the_process_serves_on(request_bytes, edge, client):
    before = cut("not_http")
    assert said(edge, request_bytes).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert cut("not_http") - before == 1
    assert exchange(client, "GET", edge.base_url + "/health/liveness", {})[0].status_code == 200


TOO_LARGE = {
    "one header": b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * (300 * KIB) + b"\r\n\r\n",
    "without end": b"GET /v1/models HTTP/1.1\r\nx-a: " + b"a" * (2048 * KIB),
    "many headers": b"GET /v1/models HTTP/1.1\r\n" + b"x: y\r\n" * 257 + b"\r\n",
    "all of them": b"GET /v1/models HTTP/1.1\r\n" + (b"x: " + b"y" * KIB + b"\r\n") * 140 + b"\r\n",
    "target": b"GET /v1/models?" + b"a" * (200 * KIB) + b" HTTP/1.1\r\n\r\n",
    "target without end": b"GET /v1/models?" + b"a" * (2048 * KIB),
}


@pytest.mark.parametrize("what", TOO_LARGE)
def test_a_head_beyond_its_limit_is_a_431_and_the_process_serves_on(what, edge, client):
    before = cut("head_too_large")
    answer = said(edge, TOO_LARGE[what])
    assert answer[:13] in (
        b"HTTP/1.1 431 ",
        b"",
    )  # what was not read resets the connection, the answer with it
    assert cut("head_too_large") - before == 1
    assert edge.entries() == [] or edge.take() == []
    assert exchange(client, "GET", edge.base_url + "/health/liveness", {})[0].status_code == 200


def test_a_head_within_its_limits_passes(edge, upstream):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    headers = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 200) for number in range(250))
    answer = said(edge, b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n" + KEYED + headers + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert (
        sum(name.startswith(b"x-") and value == b"y" * 200 for name, value in upstream.received[-1].headers)
        == 250
    )


CHUNKED = b"POST /v1/%s HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n" + KEYED + b"\r\n"
TRAILERS = b"x-api-key: sk-other\r\nanthropic-beta: b\r\nx-litellm-tags: t\r\nx-new: 1\r\n\r\n"


@pytest.mark.parametrize("path", [b"messages", b"files"])
def test_what_stands_behind_a_body_is_no_header(path, edge, upstream):
    """A trailer comes when the credential has been judged: it must not pass for a header of the request."""
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    answer = said(edge, CHUNKED % path + b"2\r\n{}\r\n0\r\n" + TRAILERS)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    up = upstream.received[-1]
    assert ({name.lower() for name, _ in up.headers}, up.body) == (
        {b"host", b"x-api-key", b"content-length" if path == b"messages" else b"transfer-encoding"},
        b"{}",
    )
    started = edge.take_one().started
    assert (started.anthropic_beta, started.attribution.tags) == ("", ())


@pytest.mark.parametrize(
    "endless",
    [
        b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * (400 * KIB),
        b"2\r\n{}\r\n0\r\nx: " + b"y" * (2048 * KIB),
        b"2;" + b"y" * (2048 * KIB),
    ],
    ids=["trailers", "one trailer", "a chunk's line"],
)
def test_framing_that_does_not_come_to_its_end_is_cut_like_a_head(endless, edge, client):
    before = cut("head_too_large")
    said(edge, CHUNKED % b"messages" + endless)
    assert cut("head_too_large") - before == 1
    assert edge.entries() == [] or edge.take() == []
    assert exchange(client, "GET", edge.base_url + "/health/liveness", {})[0].status_code == 200


@pytest.fixture
def impatient(tmp_path, upstream):
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key="sk-ant-gateway"))
    limits = ConnectionLimits(head_s_max=0.2, pipelined_max=2)
    with Edge(tmp_path, config, limits) as running:
        yield running


@pytest.mark.parametrize("begun", [b"", b"GET /v1/mod", b"GET /v1/models HTTP/1.1\r\nhost: e\r\n"])
def test_a_head_that_does_not_come_to_its_end_is_not_waited_for(begun, impatient):
    before = cut("slow_head")
    assert said(impatient, begun) == b""
    assert cut("slow_head") - before == 1


def test_a_second_head_is_not_waited_for_either(impatient):
    client = RawClient(impatient)
    client.send(b"GET /health/liveness HTTP/1.1\r\nhost: e\r\n\r\nGET /he")
    with contextlib.suppress(ConnectionResetError):
        assert b"alive" in client.read_to_end()
    client.leave()


def test_requests_that_wait_for_one_answer_are_counted(impatient, upstream):
    before = cut("pipelined")
    upstream.reply_next(CannedReply(headers=TEXT, ending="stall"))
    said(impatient, (b"POST /v1/messages HTTP/1.1\r\ncontent-length: 2\r\n" + KEYED + b"\r\n{}") * 4)
    assert cut("pipelined") - before == 1


SEED = 20261122
FUZZED = 250
# A request that is not whole gets no answer: nothing is wrong then, and whoever waits longer is not wiser.
PATIENCE_S = 0.03
WHOLE = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\n" + KEYED + b'content-length: 7\r\n\r\n{"a":1}',
    b"POST /v1/files HTTP/1.1\r\n" + KEYED + b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    b"GET /anthropic/v1/models HTTP/1.0\r\n" + KEYED + b"connection: keep-alive\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\n"
    + UPGRADE
    + KEYED
    + b"\r\nHEAD /anthropic/api/hello HTTP/1.1\r\n"
    + KEYED
    + b"\r\n",
)
NOISE = (
    b"\r\n",
    b"\x00",
    b"\xff",
    b" ",
    b":",
    b"\r\n\r\n",
    b"0",
    b"%",
    b"/../",
    b"transfer-encoding: chunked\r\n",
    b"-",
)


def mutated(chance):
    text = bytearray(chance.choice(WHOLE))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text))
        text[at : at + chance.randint(0, 3)] = chance.choice(NOISE)
    return bytes(text)


def test_requests_that_were_bitten_into_neither_stop_nor_confuse_the_process(edge, client, caplog):
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    for _ in range(FUZZED):
        left = RawClient(edge)
        with contextlib.suppress(OSError, AssertionError):  # no answer in time, or none at all
            left.send(mutated(chance))
            left.read_until(b"\r\n\r\n", PATIENCE_S)
        left.leave()
    assert exchange(client, "GET", edge.base_url + "/health/liveness", {})[0].status_code == 200
    assert {each.used.outcome for each in edge.take()} <= {"completed", "upstream_error", "client_gone"}
    assert (edge.gateway.open_exchanges, edge.gateway.body_memory.held) == (0, 0)
    assert [record.message for record in caplog.records if record.exc_info] == []
