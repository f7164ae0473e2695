"""A request that never left cost nothing; of one whose connection broke before an answer nobody can say."""

import socket

import pytest

from services.edge.config import EdgeConfig, UpstreamConfig
from services.local.ports import free_ports
from services.rating.book.file import load
from services.rating.pricing import rate
from tests.integration.edge.harness import (
    Edge,
    RawClient,
    ScriptedUpstream,
    exchange,
    usage_of,
)
from tests.integration.edge.test_upstream_faults import ASKED, ask, assert_own_answer

BOOK = load()
UNREACHED = "The gateway could not reach the Anthropic API."
BROKEN = "The Anthropic API closed the connection before it answered."
NEVER_SENT = {"http_status": 502, "error_type": "upstream_unreachable"}
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@pytest.fixture
def scripted():
    upstream = ScriptedUpstream()
    yield upstream
    upstream.close()


def edge_before(base_url, directory, limits=None, **upstream):
    config = EdgeConfig(upstream=UpstreamConfig(base_url=base_url, api_key="k", **upstream))
    return Edge(directory, config, **(limits or {}))


def cost_status(exchanged):
    return rate(exchanged.used, BOOK).cost_status


def assert_never_sent(answer, body, exchanged, outcome):
    assert_own_answer(answer, body, exchanged, 502, "api_error", UNREACHED)
    assert exchanged.used == usage_of(exchanged, **ASKED, **NEVER_SENT, outcome=outcome)
    assert exchanged.finished.error_type == "upstream_unreachable"
    assert cost_status(exchanged) == "zero"


def test_a_connection_that_is_refused_cost_nothing(tmp_path, client):
    with edge_before(f"http://127.0.0.1:{free_ports(1)}", tmp_path) as edge:
        assert_never_sent(*ask(edge, client), "upstream_cut")
        headers = {"x-api-key": "k", "content-length": "3"}
        upload, _ = exchange(client, "POST", edge.base_url + "/v1/files", headers, b"abc")
        uploaded = edge.take_one()
    assert upload.status_code == 502
    expected = {**NEVER_SENT, "outcome": "upstream_cut", "operation": "files", "endpoint": "/v1/files"}
    assert uploaded.used == usage_of(uploaded, **expected)


def test_a_host_without_an_address_cost_nothing(tmp_path, client):
    with edge_before("http://nowhere.invalid", tmp_path) as edge:
        assert_never_sent(*ask(edge, client), "upstream_cut")


def test_a_tls_handshake_that_fails_cost_nothing(tmp_path, client, scripted):
    with edge_before(scripted.base_url.replace("http:", "https:"), tmp_path) as edge:
        asking = RawClient(edge)
        asking.post(b"/v1/messages", b'{"model":"m","stream":true}', b"x-api-key: k", b"connection: close")
        scripted.accept_bare().close()
        assert asking.read_to_end().startswith(b"HTTP/1.1 502 ")
        exchanged = edge.take_one()
    assert exchanged.used == usage_of(exchanged, **ASKED, **NEVER_SENT, outcome="upstream_cut")
    assert cost_status(exchanged) == "zero"


def test_a_tls_handshake_that_hangs_cost_nothing(tmp_path, client, scripted):
    with edge_before(scripted.base_url.replace("http:", "https:"), tmp_path, connect_s_max=0.1) as edge:
        assert_never_sent(*ask(edge, client), "timed_out")


def test_a_host_that_takes_no_connection_cost_nothing(tmp_path, client):
    deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = deaf.getsockname()
    filling = [socket.socket() for _ in range(4)]
    for each in filling:  # what is beyond the backlog is never answered
        each.setblocking(False)
        each.connect_ex(address)
    with edge_before(f"http://127.0.0.1:{address[1]}", tmp_path, connect_s_max=0.1) as edge:
        assert_never_sent(*ask(edge, client), "timed_out")
    for each in (*filling, deaf):
        each.close()


def test_at_most_so_many_connections_and_who_waits_too_long_for_one_cost_nothing(tmp_path, client, scripted):
    few = edge_before(scripted.base_url, tmp_path, {"pool_s_max": 0.1}, connections_max=1, connect_s_max=0.1)
    with few as edge:
        first = RawClient(edge)
        first.post(b"/v1/messages", b"{}", b"x-api-key: k", b"connection: close")
        connection = scripted.accept()
        answer, body = exchange(
            client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, b'{"model":"m","stream":true}'
        )
        connection.send(ANSWER)
        first.read_to_end()
        second = edge.take()[1]
    assert_never_sent(answer, body, second, "timed_out")


def test_who_waits_for_a_connection_gets_the_next_that_is_free(tmp_path, scripted):
    few = edge_before(scripted.base_url, tmp_path, connections_max=1)
    with few as edge:
        asking = [RawClient(edge) for _ in range(2)]
        for each in asking:
            each.post(b"/v1/messages", b"{}", b"x-api-key: k", b"connection: close")
        connection = scripted.accept()
        connection.send(ANSWER)
        connection.next_request()  # the second one comes on the first one's connection
        connection.send(ANSWER)
        assert [each.read_to_end()[:12] for each in asking] == [b"HTTP/1.1 200"] * 2
        edge.take()


def test_a_client_that_left_before_upstream_was_reached_cost_nothing_either(tmp_path, scripted):
    with edge_before(scripted.base_url.replace("http:", "https:"), tmp_path) as edge:
        asking = RawClient(edge)
        asking.post(b"/v1/messages", b'{"model":"m","stream":true}', b"x-api-key: k")
        connection = scripted.accept_bare()
        asking.leave()
        edge.until_client_is_missed()
        connection.close()
        exchanged = edge.take_one()
    expected = {"outcome": "client_gone", "http_status": 0, "error_type": "upstream_unreachable"}
    assert exchanged.used == usage_of(exchanged, **ASKED, **expected)
    assert cost_status(exchanged) == "zero"


def test_a_connection_is_kept_for_a_while_and_then_closed(tmp_path, scripted):
    with edge_before(scripted.base_url, tmp_path, {"idle_s_max": 0.1}) as edge:
        asking = RawClient(edge)
        asking.post(b"/v1/messages", b"{}", b"x-api-key: k", b"connection: close")
        connection = scripted.accept()
        connection.send(ANSWER)
        asking.read_to_end()
        connection.until_closed()
        edge.take()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("is_reused", [False, True], ids=["new", "kept"])
def test_a_post_whose_connection_breaks_before_an_answer_is_not_sent_again_and_has_no_price(
    is_reused, how, tmp_path, client, scripted
):
    with edge_before(scripted.base_url, tmp_path) as edge:
        asking = RawClient(edge)
        if is_reused:
            asking.post(b"/v1/messages", b"{}", b"x-api-key: k")
            connection = scripted.accept()
            connection.send(ANSWER)
            asking.read_until(b"ok")
            edge.take()
        asking.post(b"/v1/messages", b'{"model":"m","stream":true}', b"x-api-key: k")
        if is_reused:
            connection.next_request()
        else:
            connection = scripted.accept()
        getattr(connection, how)()
        asking.read_until(b'request_id"')
        exchanged = edge.take_one()
        # The next connection that upstream sees brings the next request, and not that one again.
        asking.leave()
        another = RawClient(edge)
        another.post(b"/v1/messages?another", b"{}", b"x-api-key: k", b"connection: close")
        connection = scripted.accept()
        assert connection.request.startswith(b"POST /v1/messages?another ")
        connection.send(ANSWER)
        another.read_to_end()
    status, told = asking.received.split(b"HTTP/1.1 ")[-1][:3], asking.received
    assert (status, b"x-should-retry: true" in told, BROKEN.encode() in told) == (b"502", True, True)
    assert exchanged.used == usage_of(
        exchanged, **ASKED, outcome="upstream_cut", http_status=502, error_type="api_error"
    )
    assert cost_status(exchanged) == "unpriced"


def test_a_get_whose_kept_connection_is_closed_is_sent_once_more(tmp_path, scripted):
    with edge_before(scripted.base_url, tmp_path) as edge:
        asking = RawClient(edge)
        get = b"GET /v1/models HTTP/1.1\r\nhost: edge\r\nx-api-key: k\r\n\r\n"
        asking.send(get)
        connection = scripted.accept()
        connection.send(ANSWER)
        asking.read_until(b"ok")
        asking.send(get)
        connection.next_request()
        connection.close()
        again = scripted.accept()
        assert again.request.startswith(b"GET /v1/models ")
        again.send(ANSWER.replace(b"ok", b"##"))
        assert asking.read_until(b"##").count(b"HTTP/1.1 200 ") == 2
        assert [each.used.outcome for each in edge.take()] == ["completed", "completed"]


def test_a_streamed_body_is_never_sent_again(tmp_path, scripted):
    with edge_before(scripted.base_url, tmp_path) as edge:
        asking = RawClient(edge)
        asking.send(b"PUT /v1/files/1 HTTP/1.1\r\nhost: edge\r\nx-api-key: k\r\ncontent-length: 4\r\n\r\nab")
        connection = scripted.accept()
        assert connection.read_body(2) == b"ab"
        connection.close()
        assert b" 502 " in asking.read_until(b'request_id"')
        exchanged = edge.take_one()
    scripted.expect_nobody()
    assert (exchanged.used.outcome, exchanged.used.error_type) == ("upstream_cut", "api_error")


def test_what_an_answers_head_may_hold_is_limited(tmp_path, client, scripted):
    with edge_before(scripted.base_url, tmp_path, {"head_line_bytes_max": 1000}) as edge:
        told = []
        short, long = b"x" * 900, b"x" * 1100
        for line in (
            b"OK\r\nx: " + short,
            b"OK\r\nx: " + long,
            b"OK\r\n" + long + b": 1",
            long + b"\r\nx: 1",
        ):
            asking = RawClient(edge)
            asking.post(b"/v1/messages", b"{}", b"x-api-key: k", b"connection: close")
            connection = scripted.accept()
            connection.send(b"HTTP/1.1 200 " + line + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            told.append(asking.read_to_end()[9:12])
        assert told == [b"200", b"502", b"502", b"502"]
        assert [cost_status(each) for each in edge.take()][1:] == ["unpriced"] * 3
