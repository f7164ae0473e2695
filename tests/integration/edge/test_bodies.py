"""Request bodies on their way through: in codings, with faults, beyond memory, and larger than any memory."""

import gzip
import threading

import brotli
import msgspec
import pytest
from prometheus_client import REGISTRY

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, RawClient, ScriptedUpstream, exchange, usage_of

MIB = 1024 * 1024
EMPTY = CannedReply(headers=((b"content-length", b"0"),))
# Far above what the sockets of both connections hold by themselves, far below what is sent.
BUFFERED_BYTES_MAX = 40 * MIB
SENT_BYTES = 96 * MIB
STALLED_S = 1.0


def coded(coding, body):
    return {"x-api-key": "k", "content-encoding": coding, "content-length": str(len(body))}


def test_a_compressed_message_is_read_and_goes_up_as_it_came(edge, upstream, client):
    upstream.reply_next(EMPTY)
    body = gzip.compress(b'{"model":"m-1","stream":true,"metadata":{"user_id":"u"}}')
    exchange(client, "POST", edge.base_url + "/v1/messages", coded("gzip", body), body)
    up = upstream.received[-1]
    headers = dict(up.headers)
    assert (up.body, headers[b"content-encoding"], headers[b"content-length"]) == (
        body,
        b"gzip",
        b"%d" % len(body),
    )
    exchanged = edge.take_one()
    assert (exchanged.used.model_requested, exchanged.used.is_stream) == ("m-1", True)
    assert exchanged.used.attribution.end_user_id == "u"


def test_a_compressed_message_with_litellm_metadata_goes_up_without_both(edge, upstream, client):
    upstream.reply_next(EMPTY)
    body = brotli.compress(b'{"model":"m-1","litellm_metadata":{"user":"u"}, "x":1}')
    exchange(client, "POST", edge.base_url + "/v1/messages", coded("br", body), body)
    up = upstream.received[-1]
    left = b'{"model":"m-1","x":1}'
    assert up.body == left
    assert [value for name, value in up.headers if name.lower() == b"content-length"] == [b"%d" % len(left)]
    assert [name for name, _ in up.headers if name.lower() == b"content-encoding"] == []
    exchanged = edge.take_one()
    assert (exchanged.used.attribution.end_user_id, exchanged.started.request_bytes) == ("u", len(left))


def test_a_message_in_an_unknown_coding_is_upstreams_to_answer_for(edge, upstream, client):
    upstream.reply_next(EMPTY)
    exchange(client, "POST", edge.base_url + "/v1/messages", coded("rot13", b"{}"), b"{}")
    assert upstream.received[-1].body == b"{}"
    edge.take_one()


def test_a_body_that_decodes_to_too_much_is_a_413_on_the_record(edge, upstream, client):
    seen = len(upstream.received)
    bomb = gzip.compress(bytes(64 * MIB))
    answer, body = exchange(client, "POST", edge.base_url + "/v1/messages", coded("gzip", bomb), bomb)
    error = msgspec.json.decode(body)["error"]
    assert (answer.status_code, error) == (
        413,
        {
            "type": "request_too_large",
            "message": "The request's body decodes to more than the gateway accepts.",
            "details": {"error_code": "request_body_too_large_after_decoding"},
        },
    )
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, outcome="refused", http_status=413, error_type="request_too_large"
    )
    assert len(upstream.received) == seen


def test_a_batch_that_decodes_to_more_than_is_read_passes_as_it_came(edge, upstream, client):
    upstream.reply_next(EMPTY)
    body = gzip.compress(b'{"requests":[' + b" " * (40 * MIB) + b"]}")
    headers = {**coded("gzip", body), "content-type": "application/json"}
    answer, _ = exchange(client, "POST", edge.base_url + "/v1/messages/batches", headers, body)
    assert (answer.status_code, upstream.received[-1].body == body) == (200, True)
    edge.take_one()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"model":"cheap","messages":[],"mod\\u0065l":"dear"}',
            "model: stands twice in the request's body; what is asked for must be said once.",
        ),
        (
            b'{"litellm_metadata":{},%s}' % b",".join(b'"k%d":0' % number for number in range(1000)),
            "The request's body has more than 1000 top-level members.",
        ),
    ],
)
def test_a_body_that_upstream_could_read_differently_is_a_400_on_the_record(
    body, message, edge, upstream, client
):
    seen = len(upstream.received)
    answer, told = exchange(client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, body)
    error = msgspec.json.decode(told)["error"]
    assert (answer.status_code, error) == (400, {"type": "invalid_request_error", "message": message})
    assert answer.headers["x-should-retry"] == "false"
    assert (edge.take_one().used.outcome, len(upstream.received)) == ("refused", seen)


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_a_batch_is_read_first_however_its_type_is_written(kind, edge, upstream, client):
    body = b'{"litellm_metadata":{"tags":["a"]},"requests":[]}'
    upstream.reply_next(CannedReply(headers=((b"content-length", b"2"),), chunks=(b"{}",)))
    headers = {"x-api-key": "k", "content-type": kind, "content-length": str(len(body))}
    exchange(client, "POST", edge.base_url + "/v1/messages/batches", headers, body)
    assert upstream.received[-1].body == b'{"requests":[]}'
    assert edge.take_one().used.attribution.tags == ("a",)


def test_a_body_that_goes_up_without_its_coding_counts_as_long_as_it_has_become(tmp_path, upstream, client):
    body = b'{"litellm_metadata":{},"messages":"%s"}' % (b"x" * 2000)
    short = gzip.compress(body)
    config = EdgeConfig(
        body_bytes_max=1000,
        decoded_body_bytes_max=3000,
        bodies_in_memory_bytes_max=1500,
        upstream=UpstreamConfig(base_url=upstream.base_url, api_key="k"),
    )
    seen = len(upstream.received)
    with Edge(tmp_path, config) as edge:
        answer, _ = exchange(client, "POST", edge.base_url + "/v1/messages", coded("gzip", short), short)
        assert (answer.status_code, len(upstream.received)) == (529, seen)
        assert edge.take_one().used.outcome == "refused"
        edge.stop()
        assert edge.gateway.body_memory.held == 0


@pytest.fixture
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


def refused_for_memory():
    return REGISTRY.get_sample_value("edge_refusals_total", {"reason": "bodies_in_memory"}) or 0.0


def test_bodies_beyond_memory_are_a_529_until_the_answers_to_others_begin(tmp_path, scripted, client):
    config = EdgeConfig(
        body_bytes_max=1000,
        bodies_in_memory_bytes_max=1500,
        upstream=UpstreamConfig(base_url=scripted.base_url, api_key="k"),
    )
    before = refused_for_memory()
    with Edge(tmp_path, config) as edge:
        first = RawClient(edge)
        first.post(b"/v1/messages", b"x" * 900, b"x-api-key: k")
        held_up = scripted.accept()
        url = edge.base_url + "/v1/messages"
        answer, body = exchange(client, "POST", url, {"x-api-key": "k"}, b"y" * 900)
        error = msgspec.json.decode(body)["error"]
        assert (answer.status_code, error["type"]) == (529, "overloaded_error")
        assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")
        assert refused_for_memory() - before == 1

        held_up.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfi")
        first.read_until(b"\r\n\r\nfi")
        second = RawClient(edge)
        second.post(b"/v1/messages", b"y" * 900, b"x-api-key: k")
        other = scripted.accept()
        assert other.read_body(900) == b"y" * 900
        other.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        held_up.send(b"ve.")
        first.read_until(b"five.")
        outcomes = sorted(exchanged.used.outcome for exchanged in edge.take())
        assert outcomes == ["completed", "completed", "refused"]
        second.read_until(b"\r\n\r\n")
        assert edge.gateway.body_memory.held == 0
        for each in (first, second, held_up, other):
            each.leave() if isinstance(each, RawClient) else each.close()


def test_an_upload_that_upstream_does_not_take_waits_with_the_client(tmp_path, scripted):
    """What does not fit into the sockets stays where it is: the edge gathers nothing."""
    upstream = UpstreamConfig(base_url=scripted.base_url, api_key="k")
    with Edge(tmp_path, EdgeConfig(upstream=upstream)) as edge:
        client = RawClient(edge)
        head = b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: %d\r\n\r\n"
        client.send(head % SENT_BYTES + b"x")
        connection = scripted.accept()
        pushed = client.push(bytes(MIB), STALLED_S)
        assert pushed < BUFFERED_BYTES_MAX
        rest = threading.Thread(target=client.send, args=(bytes(SENT_BYTES - 1 - pushed),))
        rest.start()
        assert connection.discard_body(SENT_BYTES) == SENT_BYTES
        rest.join()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        client.read_until(b"\r\n\r\nok")
        exchanged = edge.take_one()
        assert exchanged.used == usage_of(exchanged, operation="files", endpoint="/v1/files")
        assert exchanged.started.request_bytes == SENT_BYTES
        client.leave()
        connection.close()


def test_a_download_that_the_client_does_not_take_waits_with_upstream(tmp_path, scripted):
    upstream = UpstreamConfig(base_url=scripted.base_url, api_key="k")
    with Edge(tmp_path, EdgeConfig(upstream=upstream)) as edge:
        client = RawClient(edge)
        client.send(
            b"GET /v1/files/f/content HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\nconnection: close\r\n\r\n"
        )
        connection = scripted.accept()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SENT_BYTES)
        pushed = connection.push(bytes(MIB), STALLED_S)
        assert pushed < BUFFERED_BYTES_MAX
        rest = threading.Thread(target=connection.send, args=(bytes(SENT_BYTES - pushed),))
        rest.start()
        _head, _, began = client.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")
        assert len(began) + client.discard_to_end() == SENT_BYTES
        rest.join()
        exchanged = edge.take_one()
        assert (exchanged.used.outcome, exchanged.finished.response_bytes) == ("completed", SENT_BYTES)
        client.leave()
        connection.close()
