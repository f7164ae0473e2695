"""A client that hangs up is booked as gone; its answer is read on for its usage, or cancelled."""

import pytest
from prometheus_client import REGISTRY

from services.edge.config import DrainConfig, EdgeConfig, UpstreamConfig
from services.runtime.http_protocol import ConnectionLimits
from tests.integration.edge.harness import Edge, RawClient, ScriptedUpstream, usage_of
from tests.integration.edge.test_upstream_faults import (
    ASKED,
    BODY,
    DELTA,
    FINAL,
    FLOORED,
    START,
    STARTED,
    STOP,
    TEXT,
    WORDS,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


@pytest.fixture
def edge_with(tmp_path, scripted):
    """Starts one edge with the given drain settings."""
    running = []

    def start(**drain):
        upstream = UpstreamConfig(base_url=scripted.base_url, api_key="k")
        config = EdgeConfig(body_bytes_max=1000, upstream=upstream, drain=DrainConfig(**drain))
        running.append(Edge(tmp_path, config).__enter__())
        return running[0]

    yield start
    for edge in running:
        edge.__exit__()


def streaming(edge, scripted):
    """A client that has asked, and the upstream connection, with message_start on its way."""
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k")
    connection = scripted.accept()
    connection.send(HEAD)
    connection.send_chunk(START)
    client.read_until(b"message_start")
    return client, connection


def test_a_stream_is_read_on_to_its_final_usage(edge_with, scripted):
    edge = edge_with()
    client, connection = streaming(edge, scripted)
    client.leave()
    edge.until_client_is_missed()
    for chunk in (TEXT, DELTA, STOP):
        connection.send_chunk(chunk)
    connection.send(b"0\r\n\r\n")
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **FINAL, outcome="client_gone")
    assert exchanged.finished.response_bytes == len(START + TEXT + DELTA + STOP)
    connection.close()


def test_a_message_is_read_on_where_the_client_left_before_it_began(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k")
    connection = scripted.accept()
    client.leave()
    edge.until_client_is_missed()
    usage = b'{"input_tokens":27,"output_tokens":15}'
    body = b'{"id":"msg_1","model":"m-1","stop_reason":"end_turn","usage":%s}' % usage
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    connection.send(b"content-length: %d\r\n\r\n%s" % (len(body), body))
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **FINAL, outcome="client_gone")
    connection.close()


def test_an_upstream_that_breaks_off_behind_a_client_that_left_keeps_the_usage_so_far(edge_with, scripted):
    edge = edge_with()
    client, connection = streaming(edge, scripted)
    client.leave()
    edge.until_client_is_missed()
    connection.close()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="client_gone")


@pytest.mark.parametrize(
    "drain",
    [{"on_disconnect": "cancel"}, {"exchanges_max": 0}, {"seconds_max": 0.05}],
    ids=["cancel", "no room to drain", "too slow"],
)
def test_upstream_is_cancelled_and_the_usage_so_far_is_kept(edge_with, scripted, drain):
    edge = edge_with(**drain)
    client, connection = streaming(edge, scripted)
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="client_gone")
    assert edge.drains.running == 0
    connection.close()


@pytest.mark.parametrize(
    "drain",
    [{"on_disconnect": "cancel"}, {"exchanges_max": 0}, {"seconds_max": 0.05}],
    ids=["cancel", "no room to drain", "too slow"],
)
def test_output_that_was_seen_before_upstream_was_cancelled_is_booked_with_the_floor(
    drain, edge_with, scripted
):
    edge = edge_with(**drain)
    client, connection = streaming(edge, scripted)
    connection.send_chunk(WORDS)
    client.read_until(b"text_delta")
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **FLOORED, outcome="client_gone")
    connection.close()


def test_a_ping_is_sent_on_at_once_with_upstream_still_open(edge_with, scripted):
    edge = edge_with()
    client, connection = streaming(edge, scripted)
    for piece in (b"event: ping\ndata: {}\n\n", b": a comment\n\n", b"event: pi"):
        connection.send_chunk(piece)
        client.read_until(b"%x\r\n%s\r\n" % (len(piece), piece))
    connection.send_chunk(b"ng\ndata: {}\n\n" + DELTA + STOP)
    connection.send(b"0\r\n\r\n")
    client.read_until(b"0\r\n\r\n")
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **FINAL)
    client.leave()
    connection.close()


def test_upstream_is_cancelled_before_it_answered(edge_with, scripted):
    edge = edge_with(on_disconnect="cancel")
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k")
    connection = scripted.accept()
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **ASKED, outcome="client_gone", http_status=0)
    connection.close()


def test_a_client_that_leaves_behind_the_end_was_there_to_the_end(edge_with, scripted):
    edge = edge_with()
    client, connection = streaming(edge, scripted)
    connection.send_chunk(DELTA + STOP)
    client.read_until(b"message_stop")
    closings = [stage for _, _, stage, _ in edge.entries()]
    client.leave()
    edge.until_client_is_missed()
    connection.send(b"0\r\n\r\n")
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **FINAL)
    assert closings == [1, 2, 3]  # durable before the client had the last event, upstream still open
    connection.close()


def test_the_last_byte_of_a_known_length_comes_behind_its_record(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k")
    connection = scripted.accept()
    connection.send(
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"usage":null'
    )
    client.read_until(b"usage")
    stages = [stage for _, _, stage, _ in edge.entries()]
    connection.close()
    client.leave()
    assert stages[-1] == 3
    edge.take()


def test_a_client_that_leaves_within_its_upload_is_gone(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.send(
        b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 5000\r\n\r\n" + b"x" * 100
    )
    connection = scripted.accept()
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, operation="files", endpoint="/v1/files", outcome="client_gone", http_status=0
    )
    connection.close()


def test_a_client_that_leaves_within_its_upload_when_the_answer_has_begun_is_gone(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.send(b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 1000\r\n\r\npart")
    connection = scripted.accept()
    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    connection.send_chunk(b"one")
    client.read_until(b"one")
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, operation="files", endpoint="/v1/files", outcome="client_gone"
    )
    connection.close()


def test_a_client_that_leaves_behind_its_upload_is_gone(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.send(b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 5000\r\n\r\n")
    client.send(b"x" * 5000)
    connection = scripted.accept()
    assert connection.read_body(5000) == b"x" * 5000
    client.leave()
    edge.until_client_is_missed()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, operation="files", endpoint="/v1/files", outcome="client_gone"
    )
    assert exchanged.finished.response_bytes == 2
    connection.close()


def test_a_client_that_leaves_within_a_download_behind_its_upload_is_gone(edge_with, scripted):
    edge = edge_with(on_disconnect="cancel")
    client = RawClient(edge)
    client.send(b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ntransfer-encoding: chunked\r\n\r\n")
    client.send(b"2\r\nab\r\n0\r\n\r\n")
    connection = scripted.accept()
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfive.")
    client.read_until(b"five.")
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, operation="files", endpoint="/v1/files", outcome="client_gone"
    )
    connection.close()


def test_a_client_that_takes_nothing_for_too_long_is_gone(tmp_path, scripted):
    upstream = UpstreamConfig(base_url=scripted.base_url, api_key="k")
    config = EdgeConfig(upstream=upstream, drain=DrainConfig(on_disconnect="cancel"))
    before = slow_readers()
    with Edge(tmp_path, config, ConnectionLimits(write_s_max=0.2)) as edge:
        client = RawClient(edge)
        client.send(b"GET /v1/files/f/content HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\n\r\n")
        connection = scripted.accept()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                connection.send(bytes(1 << 20))
        exchanged = edge.take_one()
        assert exchanged.used == usage_of(
            exchanged, operation="files", endpoint="/v1/files/{id}/content", outcome="client_gone"
        )
        assert client.discard_to_end() < 1_000_000_000
        client.leave()
        connection.close()
    assert slow_readers() - before == 1


def test_a_client_that_leaves_with_another_request_behind_this_one_is_gone(edge_with, scripted):
    edge = edge_with(on_disconnect="cancel")
    client = RawClient(edge)
    one = b"POST /v1/messages HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 2\r\n\r\n{}"
    client.send(one + one)
    connection = scripted.accept()
    client.leave()
    connection.until_closed()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, outcome="client_gone", http_status=0)
    connection.close()


def slow_readers():
    return REGISTRY.get_sample_value("http_connections_cut_total", {"reason": "slow_reader"}) or 0.0


def test_a_client_that_leaves_before_its_request_is_whole_began_nothing(edge_with):
    edge = edge_with()
    client = RawClient(edge)
    client.send(b"POST /v1/messages HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 500\r\n\r\n{")
    client.leave()
    after = RawClient(edge)
    after.send(b"GET /health/liveness HTTP/1.1\r\nhost: e\r\nconnection: close\r\n\r\n")
    assert b"alive" in after.read_to_end()
    after.leave()
    assert edge.entries() == []


def test_an_upload_that_upstream_refuses_before_its_end_gets_the_answer(edge_with, scripted):
    edge = edge_with()
    client = RawClient(edge)
    client.send(
        b"POST /v1/files HTTP/1.1\r\nhost: e\r\nx-api-key: k\r\ncontent-length: 5000\r\n\r\n" + b"x" * 100
    )
    connection = scripted.accept()
    connection.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
    client.read_until(b"\r\n\r\nno")
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(
        exchanged, operation="files", endpoint="/v1/files", outcome="upstream_error", http_status=413
    )
    client.leave()
    connection.until_closed()
    connection.close()
