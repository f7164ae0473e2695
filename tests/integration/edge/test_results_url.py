"""A client that follows `results_url` comes back to this gateway, whatever upstream answered."""

import json

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, RawClient, exchange, usage_of

PATH = "/v1/messages/batches/msgbatch_1/results"
JSON = (b"content-type", b"application/json")
KEY = (b"x-api-key", b"sk-caller")
ROUTES = [
    ("POST", "/v1/messages/batches", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches?limit=1000", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches/msgbatch_1", "/v1/messages/batches/{id}"),
    ("POST", "/v1/messages/batches/msgbatch_1/cancel", "/v1/messages/batches/{id}/cancel"),
]


def body_of(results_url):
    return b'{ "id":"msgbatch_1", "data":[{"results_url" : "%s"}],\n"results_url":"%s","n":1.0 }' % (
        results_url.encode(),
        results_url.encode().replace(b"/", rb"\/"),
    )


def pointing_to(address):
    return b'{ "id":"msgbatch_1", "data":[{"results_url" : "%s"}],\n"results_url":"%s","n":1.0 }' % (
        (address.encode(),) * 2
    )


def asked(client, edge, method, target, *headers):
    content = b'{"requests":[]}' if method == "POST" else None
    length = [(b"content-length", b"15")] if content else []
    sent = [(b"host", edge.base_url.removeprefix("http://").encode()), KEY, *headers, *length]
    return exchange(client, method, edge.base_url + target, sent, content)


@pytest.mark.parametrize("framing", ["chunked", "content-length"])
@pytest.mark.parametrize("prefix", ["", "/anthropic"])
@pytest.mark.parametrize(("method", "target", "endpoint"), ROUTES)
def test_every_batch_that_passes_leads_back_to_the_gateway(
    method, target, endpoint, prefix, framing, edge, upstream, client
):
    body = body_of(upstream.base_url + PATH)
    came = [JSON, (b"request-id", b"req_1")]
    length = [(b"content-length", b"%d" % len(body))] if framing == "content-length" else []
    chunks = tuple(body[at : at + 7] for at in range(0, len(body), 7))
    upstream.reply_next(CannedReply(headers=(*came, *length), chunks=chunks))

    answer, received = asked(client, edge, method, prefix + target, (b"accept-encoding", b"gzip, br"))

    exchanged = edge.take_one()
    expected = pointing_to(edge.base_url + prefix + PATH)
    request_id = exchanged.used.request_id.encode()
    named = [(b"x-tollhouse-request-id", request_id), (b"x-litellm-call-id", request_id)]
    if framing == "content-length":
        framed = [*came, (b"content-length", b"%d" % len(expected)), *named]
    else:
        framed = [*came, *named, (b"transfer-encoding", b"chunked")]
    assert (answer.status_code, received, answer.headers.raw) == (200, expected, framed)
    codings = [value for name, value in upstream.received[-1].headers if name.lower() == b"accept-encoding"]
    assert codings == [b"identity"]
    assert exchanged.used == usage_of(
        exchanged, operation="batches", endpoint=endpoint, upstream_request_id="req_1"
    )


def test_anthropics_own_address_leads_back_to_the_gateway_too(edge, upstream, client):
    body = body_of("https://api.anthropic.com" + PATH)
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(body,)))
    _, received = asked(client, edge, *ROUTES[2][:2])
    assert received == pointing_to(edge.base_url + PATH)
    edge.take()


def test_a_batch_without_results_passes_byte_for_byte(edge, upstream, client):
    body = b'{ "id":"msgbatch_1",\n "results_url" : null }\n'
    upstream.reply_next(CannedReply(headers=(JSON, (b"content-length", b"%d" % len(body))), chunks=(body,)))
    answer, received = asked(client, edge, *ROUTES[2][:2])
    assert (received, answer.headers["content-length"]) == (body, str(len(body)))
    edge.take()


def test_a_long_page_of_batches_is_rewritten_as_a_short_one(edge, upstream, client):
    batch = {"id": "msgbatch_1", "request_counts": {"succeeded": 7}, "results_url": upstream.base_url + PATH}
    body = json.dumps({"data": [batch] * 5000}).encode()
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(body,)))
    _, received = asked(client, edge, *ROUTES[1][:2])
    here = {**batch, "results_url": edge.base_url + PATH}
    assert json.loads(received) == {"data": [here] * 5000}
    edge.take()


def test_an_error_passes_as_it_came(edge, upstream, client):
    body = b'{"type":"error","error":{"type":"not_found_error","message":"x"},"results_url":"https://x.example/"}'
    upstream.reply_next(CannedReply(status=404, headers=(JSON,), chunks=(body,)))
    answer, received = asked(client, edge, *ROUTES[2][:2])
    assert (answer.status_code, received) == (404, body)
    exchanged = edge.take_one()
    assert (exchanged.used.outcome, exchanged.used.error_type) == ("upstream_error", "not_found_error")


def test_results_pass_as_they_come(edge, upstream, client):
    line = b'{"custom_id":"a","result":{"results_url":"https://api.anthropic.com/x"}}\n'
    headers = ((b"content-type", b"application/x-jsonl"),)
    upstream.reply_next(CannedReply(headers=headers, chunks=(line,) * 3))
    _, received = asked(client, edge, "GET", PATH, (b"accept-encoding", b"gzip"))
    assert received == line * 3
    assert (b"accept-encoding", b"gzip") in upstream.received[-1].headers
    edge.take()


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((JSON,), body_of("https://storage.example/results")),
        ((JSON,), b'{"id":"msgbatch_1"'),
        ((JSON,), b" " * (4 * 1024 * 1024) + b"{}"),
        ((JSON, (b"content-encoding", b"gzip")), b"\x1f\x8b"),
    ],
    ids=["leads elsewhere", "no JSON", "too long", "a coding"],
)
def test_what_cannot_be_pointed_here_is_withheld_and_said_so(headers, body, edge, upstream, client):
    upstream.reply_next(CannedReply(headers=headers, chunks=(body,)))
    answer, received = asked(client, edge, *ROUTES[0][:2])
    exchanged = edge.take_one()
    error = json.loads(received)["error"]
    assert (answer.status_code, error["type"]) == (502, "api_error")
    assert "results_url" in error["message"]
    assert answer.headers["x-should-retry"] == "false"  # the batch was created; once is enough
    assert exchanged.used == usage_of(
        exchanged,
        operation="batches",
        endpoint="/v1/messages/batches",
        outcome="refused",
        http_status=502,
        error_type="api_error",
    )


def test_an_upstream_that_breaks_off_within_a_batch_is_a_502(edge, upstream, client):
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(b'{"id":',), ending="cut"))
    answer, _ = asked(client, edge, *ROUTES[2][:2])
    assert (answer.status_code, edge.take_one().used.outcome) == (502, "upstream_cut")


@pytest.mark.parametrize("host", [b"", b"user@evil", b"gateway:port", b"a\r\nhost: b"])
def test_a_host_that_names_none_is_refused_before_anything_goes_up(host, edge, upstream):
    before = len(upstream.received)
    client = RawClient(edge)
    client.send(b"POST /v1/messages/batches HTTP/1.1\r\nhost: " + host)
    client.send(b"\r\nx-api-key: k\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    assert b"HTTP/1.1 400" in client.read_to_end()
    client.leave()
    assert len(upstream.received) == before
    exchanged = edge.take_one()
    assert (exchanged.used.outcome, exchanged.used.error_type) == ("refused", "invalid_request_error")


def test_a_client_without_a_host_is_led_to_the_address_that_it_has_reached(edge, upstream):
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(body_of(upstream.base_url + PATH),)))
    client = RawClient(edge)
    client.send(b"GET /v1/messages/batches/msgbatch_1 HTTP/1.0\r\nx-api-key: k\r\n\r\n")
    assert client.read_to_end().endswith(pointing_to(edge.base_url + PATH))
    client.leave()
    edge.take()


@pytest.mark.parametrize(
    "public_url", ["https://llm.example.com/anthropic", "https://llm.example.com/claude/"]
)
def test_a_configured_public_url_goes_before_what_a_request_says(public_url, tmp_path, upstream, client):
    config = EdgeConfig(
        public_url=public_url, upstream=UpstreamConfig(base_url=upstream.base_url, api_key="sk-ant-gateway")
    )
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(body_of(upstream.base_url + PATH),)))
    with Edge(tmp_path, config) as edge:
        _, received = asked(client, edge, *ROUTES[2][:2], (b"x-forwarded-host", b"evil.example"))
        edge.take()
    assert received == pointing_to(public_url.rstrip("/") + PATH)
