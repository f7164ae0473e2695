"""An edge that is told to stop while answers are on their way: each client is told, and each is booked."""

import msgspec
import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from tests.integration.edge.harness import Edge, RawClient, ScriptedUpstream, usage_of
from tests.integration.edge.test_upstream_faults import (
    ASKED,
    BODY,
    FLOORED,
    START,
    STARTED,
    STOP,
    WORDS,
    gateway_error,
)

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
MESSAGE = "The gateway stopped before the answer was complete; try again."


@pytest.fixture
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


@pytest.fixture
def edge(tmp_path, scripted):
    with Edge(tmp_path, EdgeConfig(upstream=UpstreamConfig(base_url=scripted.base_url, api_key="k"))) as one:
        yield one


def asking(edge, scripted):
    client = RawClient(edge)
    client.post(b"/v1/messages", BODY, b"x-api-key: k")
    return client, scripted.accept()


def test_a_stream_ends_with_an_error_event_and_is_booked_with_the_floor(edge, scripted):
    client, connection = asking(edge, scripted)
    connection.send(HEAD)
    connection.send_chunk(START + WORDS)
    client.read_until(b"xxx")
    edge.stop()
    exchanged = edge.take_one()
    told = gateway_error("api_error", MESSAGE, exchanged.used.request_id)
    last = b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"
    assert client.read_to_end().endswith(last + b"\r\n0\r\n\r\n")
    assert exchanged.used == usage_of(exchanged, **FLOORED, outcome="orphaned", error_type="api_error")


def test_a_request_that_waits_for_its_answer_gets_a_503(edge, scripted):
    client, _ = asking(edge, scripted)
    edge.stop()
    exchanged = edge.take_one()
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    told = msgspec.json.encode(gateway_error("api_error", MESSAGE, exchanged.used.request_id))
    assert (head.split(b"\r\n")[0], b"x-should-retry: true" in head, body) == (
        b"HTTP/1.1 503 Service Unavailable",
        True,
        told,
    )
    assert exchanged.used == usage_of(
        exchanged, **ASKED, outcome="orphaned", http_status=503, error_type="api_error"
    )


def test_an_answer_that_was_read_on_without_its_client_stays_its_own(edge, scripted):
    client, connection = asking(edge, scripted)
    connection.send(HEAD)
    connection.send_chunk(START)
    client.read_until(b"message_start")
    client.leave()
    edge.until_client_is_missed()
    edge.stop()
    exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **STARTED, outcome="client_gone")


def test_an_answer_that_was_complete_stays_complete(edge, scripted):
    client, connection = asking(edge, scripted)
    connection.send(HEAD)
    connection.send_chunk(START + STOP)
    client.read_until(b"message_stop")
    edge.stop()
    assert client.read_to_end().endswith(STOP + b"\r\n0\r\n\r\n")
    assert edge.take_one().used.outcome == "completed"
