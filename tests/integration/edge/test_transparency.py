"""What passes is not touched: methods, targets, headers, bodies of any size and framing."""

import hashlib
import random

import pytest

from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import RawClient, exchange, usage_of

GATEWAY = (b"x-api-key", b"sk-ant-gateway")
MIB = 1024 * 1024
SEED = 20261122


def headers_of(received):
    return [(name.lower(), value) for name, value in received.headers]


def host_of(upstream):
    return (b"host", upstream.base_url.removeprefix("http://").encode())


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        (b"/v1/models?a=1&a=2&b=&a=1&c", b"/v1/models?a=1&a=2&b=&a=1&c"),
        (b"/anthropic/v1/models?x=%2F%zz+%20%e4", b"/v1/models?x=%2F%zz+%20%e4"),
        (b"/v1/files/a%2Fb%20c%25/content", b"/v1/files/a%2Fb%20c%25/content"),
        (b"/anthropic//v1//models//", b"//v1//models//"),
        (b"/v1/models/../x/./y", b"/v1/models/../x/./y"),
        (b"/v1/models/%7Eme~!$&'()*+,;=:@", b"/v1/models/%7Eme~!$&'()*+,;=:@"),
        (b'/v1/models?q={"a":[1|2]}^`\\', b'/v1/models?q={"a":[1|2]}^`\\'),
        (b"/anthropic/api/hello", b"/api/hello"),
        (b"/v1/messages/?beta=true", b"/v1/messages/?beta=true"),
    ],
)
def test_the_target_goes_up_byte_for_byte(asked, target, edge, upstream):
    upstream.reply_next(CannedReply(status=200, headers=((b"content-length", b"2"),), chunks=(b"ok",)))
    client = RawClient(edge)
    client.send(b"GET " + asked + b" HTTP/1.1\r\nhost: edge\r\nx-api-key: k\r\nconnection: close\r\n\r\n")
    assert client.read_to_end().endswith(b"\r\n\r\nok")
    client.leave()
    assert upstream.received[-1].target == target
    assert edge.take_one().used.outcome == "completed"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS"])
def test_a_request_without_a_body_gets_none(method, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    sent = [(b"host", b"edge"), (b"x-api-key", b"k"), (b"accept", b"*/*")]
    answer, body = exchange(client, method, edge.base_url + "/v1/files/file_1", sent)
    assert (answer.status_code, body) == (200, b"")
    up = upstream.received[-1]
    assert (up.method, up.body) == (method, b"")
    # aiohttp says of a DELETE without a body that its length is nothing.
    length = [(b"content-length", b"0")] if method == "DELETE" else []
    assert headers_of(up) == [host_of(upstream), (b"accept", b"*/*"), GATEWAY, *length]
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, operation="files", endpoint="/v1/files/{id}")
    assert exchanged.started.method == method


def test_head_is_answered_with_the_length_and_without_the_body(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"123"), (b"content-type", b"text/plain"))))
    for connection in ("keep-alive", "close"):
        headers = {"x-api-key": "k", "connection": connection}
        if connection == "close":
            upstream.reply_next(CannedReply(headers=((b"content-length", b"123"),)))
        answer, body = exchange(client, "HEAD", edge.base_url + "/v1/files/file_1/content", headers)
        assert (answer.status_code, answer.headers["content-length"], body) == (200, "123", b"")
    assert [exchanged.used.outcome for exchanged in edge.take()] == ["completed", "completed"]


def test_headers_go_up_in_order_with_duplicates_and_nothing_beside_them(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    passing = [
        (b"anthropic-beta", b"one"),
        (b"x-twice", b"1"),
        (b"anthropic-version", b"2023-06-01"),
        (b"x-twice", b"2"),
        (b"anthropic-beta", b"two, three"),
        (b"x-empty", b""),
        (b"x-text", "grün 日本".encode()),
        (b"x-twice", b"1"),
        (b"x-real-ip", b"10.0.0.1"),
    ]
    dropped = [
        (b"cookie", b"session=1"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x-forwarded-proto", b"https"),
        (b"forwarded", b"for=10.0.0.1"),
        (b"via", b"1.1 proxy"),
        (b"te", b"trailers"),
        (b"keep-alive", b"timeout=5"),
        (b"connection", b"keep-alive, x-hop"),
        (b"x-hop", b"1"),
        (b"x-litellm-tags", b"a"),
        (b"x-litellm-api-key", b"k"),
        (b"x-tollhouse-debug", b"1"),
        (b"authorization", b"Bearer k"),
        (b"x-api-key", b"k"),
    ]
    mixed = [*passing, *dropped]
    random.Random(SEED).shuffle(mixed)
    expected = [each for each in mixed if each in passing]
    exchange(client, "GET", edge.base_url + "/v1/models", [(b"host", b"edge"), *mixed])
    assert headers_of(upstream.received[-1]) == [host_of(upstream), *expected, GATEWAY]
    edge.take_one()


def test_headers_come_down_in_order_with_duplicates_and_without_cookies(edge, upstream, client):
    came = (
        (b"vary", b"Origin"),
        (b"request-id", b"req_1"),
        (b"vary", b"Accept-Encoding"),
        (b"date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
        (b"server", b"cloudflare"),
        (b"x-latin", b"\xe9"),
        (b"content-length", b"0"),
    )
    cookies = ((b"set-cookie", b"a=1; Path=/"), (b"set-cookie", b"b=2"), (b"alt-svc", b"h3"))
    upstream.reply_next(CannedReply(headers=(*came[:3], *cookies, *came[3:])))
    answer, _ = exchange(client, "GET", edge.base_url + "/v1/models", {"x-api-key": "k"})
    request_id = edge.take_one().used.request_id.encode()
    assert answer.headers.raw == [
        *came,
        (b"x-tollhouse-request-id", request_id),
        (b"x-litellm-call-id", request_id),
    ]


def test_a_cookie_of_one_answer_does_not_go_up_with_the_next_request(edge, upstream, client):
    for _ in range(2):
        upstream.reply_next(CannedReply(headers=((b"set-cookie", b"a=1; Path=/"), (b"content-length", b"0"))))
        exchange(client, "GET", edge.base_url + "/v1/models", {"x-api-key": "k"})
    edge.take()
    assert [name for name, _ in headers_of(upstream.received[-1]) if name == b"cookie"] == []


@pytest.mark.parametrize("status", [204, 205])
def test_an_answer_without_content_has_none(status, edge, upstream, client):
    upstream.reply_next(CannedReply(status=status, headers=((b"content-length", b"0"),)))
    answer, body = exchange(client, "DELETE", edge.base_url + "/v1/files/f", {"x-api-key": "k"})
    assert (answer.status_code, body, edge.take_one().used.outcome) == (status, b"", "completed")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model" : "m",\n "messages":[ ]  }',
        b'{"model":"m","max_tokens":1e2,"x":"\\u00e9\\/"}',
        b"{not json",
        b"\x1f\x8b\x08\x00compressed",
        b'{"a":1,"a":2}',
    ],
)
def test_a_body_goes_up_as_it_was_written(body, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    headers = {"x-api-key": "k", "content-type": "application/json", "content-length": str(len(body))}
    exchange(client, "POST", edge.base_url + "/v1/messages", headers, body)
    up = upstream.received[-1]
    assert (up.body, dict(headers_of(up))[b"content-length"]) == (body, b"%d" % len(body))
    edge.take_one()


def test_litellm_metadata_is_cut_and_the_length_follows_in_its_place(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    body, left = b'{"model":"m", "litellm_metadata":{"user":"u"}, "x": 1}', b'{"model":"m", "x": 1}'
    sent = [(b"host", b"e"), (b"content-length", b"%d" % len(body)), (b"x-api-key", b"k"), (b"x-last", b"1")]
    exchange(client, "POST", edge.base_url + "/v1/messages", sent, body)
    up = upstream.received[-1]
    assert up.body == left
    assert headers_of(up) == [
        host_of(upstream),
        (b"content-length", b"%d" % len(left)),
        (b"x-last", b"1"),
        GATEWAY,
    ]
    exchanged = edge.take_one()
    assert (exchanged.used.attribution.end_user_id, exchanged.started.request_bytes) == ("u", len(left))


def test_a_message_in_chunks_goes_up_with_its_length(edge, upstream):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    client = RawClient(edge)
    client.send(
        b"POST /v1/messages HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    client.send(b'5\r\n{"a":\r\n')
    client.send(b"3\r\n1}\n\r\n0\r\n\r\n")
    client.read_until(b"\r\n\r\n")
    client.leave()
    up = upstream.received[-1]
    assert (up.body, headers_of(up)) == (
        b'{"a":1}\n',
        [host_of(upstream), GATEWAY, (b"content-length", b"8")],
    )
    edge.take_one()


def upload_of(size):
    print(f"seed {SEED}")
    return random.Random(SEED).randbytes(size)


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
def test_a_large_upload_passes_untouched_beyond_what_is_read_first(framing, edge, upstream, client):
    upstream.reply_next(
        CannedReply(headers=((b"content-type", b"application/json"),), chunks=(b'{"id":"f"}',))
    )
    content = upload_of(5 * MIB)
    assert len(content) > edge.config.body_bytes_max
    kind = (b"content-type", b"multipart/form-data; boundary=x")
    if framing == "chunked":
        framed, sent = (b"transfer-encoding", b"chunked"), _pieces(content)
    else:
        framed, sent = (b"content-length", b"%d" % len(content)), content
    headers = [(b"host", b"e"), framed, kind, (b"x-api-key", b"k")]
    answer, body = exchange(client, "POST", edge.base_url + "/v1/files", headers, sent)
    assert (answer.status_code, body) == (200, b'{"id":"f"}')
    up = upstream.received[-1]
    assert hashlib.sha256(up.body).digest() == hashlib.sha256(content).digest()
    framed_up = [each for each in headers_of(up) if each[0] in (b"content-length", b"transfer-encoding")]
    assert framed_up == [framed]
    assert [each for each in headers_of(up) if each not in framed_up] == [host_of(upstream), kind, GATEWAY]
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, operation="files", endpoint="/v1/files")
    known = 0 if framing == "chunked" else len(content)
    assert (exchanged.started.request_bytes, exchanged.finished.response_bytes) == (known, 10)


def _pieces(content):
    for at in range(0, len(content), 100_000):
        yield content[at : at + 100_000]


def test_a_batch_beyond_what_is_read_first_passes_as_it_comes(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    content = b'{"requests":[' + b" " * edge.config.body_bytes_max + b"]}"
    headers = {"x-api-key": "k", "content-type": "application/json", "content-length": str(len(content))}
    answer, _ = exchange(client, "POST", edge.base_url + "/v1/messages/batches", headers, content)
    assert (answer.status_code, upstream.received[-1].body == content) == (200, True)
    assert edge.take_one().used.operation == "batches"


def test_a_file_comes_down_untouched(edge, upstream, client):
    content = upload_of(5 * MIB)
    came = ((b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(content)))
    chunks = tuple(content[at : at + 65536] for at in range(0, len(content), 65536))
    upstream.reply_next(CannedReply(headers=came, chunks=chunks))
    answer, body = exchange(client, "GET", edge.base_url + "/v1/files/f/content", {"x-api-key": "k"})
    assert answer.status_code == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(content).digest()
    exchanged = edge.take_one()
    assert exchanged.finished.response_bytes == len(content)
    assert exchanged.used == usage_of(exchanged, operation="files", endpoint="/v1/files/{id}/content")


def test_an_upload_that_upstream_refuses_at_once_gets_its_answer(edge, upstream, client):
    refusal = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
    came = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(refusal)))
    upstream.reply_next(CannedReply(status=400, headers=came, chunks=(refusal,)))
    answer, body = exchange(
        client, "POST", edge.base_url + "/v1/files", {"x-api-key": "k"}, _pieces(b"x" * 1000)
    )
    assert (answer.status_code, body) == (400, refusal)
    exchanged = edge.take_one()
    assert (exchanged.used.outcome, exchanged.used.error_type) == ("upstream_error", "invalid_request_error")


def test_expect_continue_is_answered_here_and_does_not_go_up(edge, upstream):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    client = RawClient(edge)
    head = (b"POST /v1/messages HTTP/1.1", b"host: e", b"x-api-key: k", b"expect: 100-continue")
    client.send(b"\r\n".join((*head, b"content-length: 2", b"", b"")))
    client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.send(b"{}")
    client.read_until(b"HTTP/1.1 200 OK\r\n")
    client.leave()
    assert [name for name, _ in headers_of(upstream.received[-1])] == [
        b"host",
        b"content-length",
        b"x-api-key",
    ]
    edge.take_one()
