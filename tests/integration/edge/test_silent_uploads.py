"""A body that goes up as it comes in and falls silent has a limit; its client is told where it can be."""

import contextlib
import json
import threading

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.runtime.http_protocol import ConnectionLimits
from tests.integration.edge.harness import Edge, RawClient, ScriptedUpstream, usage_of
from tests.integration.edge.test_upstream_faults import gateway_error

HEAD = b"POST /v1/files HTTP/1.1\r\nhost: edge\r\nx-api-key: k\r\n"
FILES = {"operation": "files", "endpoint": "/v1/files"}


@pytest.fixture
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


def edge_before(scripted, directory, client_read_s_max, **upstream):
    upstream = UpstreamConfig(base_url=scripted.base_url, api_key="k", **upstream)
    config = EdgeConfig(upstream=upstream, client_read_s_max=client_read_s_max)
    return Edge(directory, config, ConnectionLimits())


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        (b"content-length: 10", b""),
        (b"content-length: 10", b"abcde"),
        (b"transfer-encoding: chunked", b""),
        (b"transfer-encoding: chunked", b"5\r\nabcde\r\n"),
    ],
)
def test_an_upload_that_falls_silent_is_a_408_and_upstream_is_let_go(sent, framing, tmp_path, scripted):
    with edge_before(scripted, tmp_path, 0.2) as edge:
        client = RawClient(edge)
        client.send(HEAD + framing + b"\r\n\r\n" + sent)
        connection = scripted.accept_bare()  # without any of the body not even the head goes up
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
        answer = client.read_until(b'"}')
        exchanged = edge.take_one()
        client.leave()
    head, _, body = answer.partition(b"\r\n\r\n")
    message = "The request's body did not arrive in time."
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"x-should-retry: true" in head
    assert json.loads(body) == gateway_error("timeout_error", message, exchanged.used.request_id)
    assert exchanged.used == usage_of(
        exchanged, **FILES, outcome="refused", http_status=408, error_type="timeout_error"
    )
    connection.close()


def test_an_upload_that_falls_silent_behind_the_head_of_its_answer_is_closed(tmp_path, scripted):
    with edge_before(scripted, tmp_path, 0.2) as edge:
        client = RawClient(edge)
        client.send(HEAD + b"content-length: 10\r\n\r\nabc")
        connection = scripted.accept()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok")
        head, _, body = client.read_to_end().partition(b"\r\n\r\n")
        exchanged = edge.take_one()
        connection.until_closed()
    assert (head.startswith(b"HTTP/1.1 200 "), body) == (True, b"ok")
    assert exchanged.used == usage_of(exchanged, **FILES, outcome="client_gone")
    connection.close()


def test_the_time_in_which_upstream_takes_nothing_is_not_the_clients_silence(tmp_path, scripted):
    size = 64 * 1024 * 1024
    with edge_before(scripted, tmp_path, 1.0) as edge:
        client = RawClient(edge)
        client.send(HEAD + b"content-length: %d\r\n\r\nx" % size)
        connection = scripted.accept()
        # The sockets are full for longer than a client may be silent.
        pushed = client.push(bytes(1 << 20), stalled_s=1.5)
        rest = threading.Thread(target=client.send, args=(bytes(size - 1 - pushed),))
        rest.start()
        assert connection.discard_body(size) == size
        rest.join()
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        client.read_until(b"\r\n\r\nok")
        assert edge.take_one().used.outcome == "completed"
        client.leave()
    connection.close()
