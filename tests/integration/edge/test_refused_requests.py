"""What the gateway refuses it answers in Anthropic's shape, and it records only whom it knows."""

import msgspec
import pytest
from prometheus_client import REGISTRY

from services.edge.config import EdgeConfig, SpoolConfig, UpstreamConfig
from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import Edge, RawClient, exchange, usage_of

MASTER = "sk-master"
FLOOD = 500
KEYED = {"x-api-key": MASTER}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, upstream):
    """An edge behind a master key, with a base path before it that nobody may leave."""
    config = EdgeConfig(
        master_key=MASTER,
        body_bytes_max=1000,
        upstream=UpstreamConfig(base_url=upstream.base_url + "/base/", auth_token="token"),
    )
    with Edge(tmp_path_factory.mktemp("guarded"), config) as running:
        yield running


def assert_refused(answer, body, status, error_type, message, should_retry=b"false", retry_after=()):
    request_id = answer.headers["x-tollhouse-request-id"]
    expected = msgspec.json.encode(
        {"type": "error", "error": {"type": error_type, "message": message}, "request_id": request_id}
    )
    assert (answer.status_code, body) == (status, expected)
    assert sorted(answer.headers.raw) == [
        (b"content-length", b"%d" % len(expected)),
        (b"content-type", b"application/json"),
        (b"request-id", request_id.encode()),
        *((b"retry-after", each) for each in retry_after),
        (b"x-litellm-call-id", request_id.encode()),
        (b"x-should-retry", should_retry),
        (b"x-tollhouse-request-id", request_id.encode()),
    ]


NO_KEY = "No API key was given: send it as x-api-key or as Authorization: Bearer."


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, NO_KEY),
        ({"authorization": "Basic c2stbWFzdGVy"}, NO_KEY),
        ({"x-api-key": "sk-other"}, "invalid x-api-key"),
        ({"authorization": "Bearer sk-other", "x-api-key": MASTER}, "invalid x-api-key"),
    ],
)
def test_without_a_known_credential_there_is_a_401_and_no_record(guarded, upstream, client, headers, message):
    seen = len(upstream.received)
    answer, body = exchange(client, "POST", guarded.base_url + "/v1/messages", headers, b"{}")
    assert_refused(answer, body, 401, "authentication_error", message)
    assert (guarded.entries(), len(upstream.received)) == ([], seen)


def refusals(reason):
    return REGISTRY.get_sample_value("edge_refusals_total", {"reason": reason}) or 0.0


def test_a_flood_of_unknown_credentials_moves_a_counter_and_nothing_else(guarded, upstream):
    seen, before = len(upstream.received), refusals("unknown_credential")
    client = RawClient(guarded)
    one = b"POST /v1/messages HTTP/1.1\r\nhost: e\r\nx-api-key: sk-%d\r\ncontent-length: 2\r\n\r\n{}"
    for number in range(FLOOD - 1):
        client.send(one % number)
        client.read_until(b'"}')
        client.received = b""
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: e\r\nx-api-key: sk\r\nconnection: close\r\n\r\n")
    assert client.read_to_end().startswith(b"HTTP/1.1 401 ")
    client.leave()
    assert (guarded.entries(), len(upstream.received)) == ([], seen)
    assert guarded.gateway.exchange_seq == 0
    assert refusals("unknown_credential") - before == FLOOD


@pytest.mark.parametrize("path", ["/v10/messages", "/v1", "/anthropic", "/nowhere", "/", "/api/v1/messages"])
def test_an_unknown_route_is_a_404_and_no_record(guarded, client, path):
    answer, body = exchange(client, "POST", guarded.base_url + path, KEYED, b"{}")
    message = (
        "The gateway serves /anthropic/{path} and /v1/{path}; where it has a master key, also LiteLLM's "
        "routes below /key, /team and /customer, as /openapi.json has them."
    )
    assert_refused(answer, body, 404, "not_found_error", message)
    assert guarded.entries() == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (b"/v1/../secrets", "The request target must not contain dot segments."),
        (b"/v1/%2e%2e/secrets", "The request target must not contain dot segments."),
        (b"/v1/" + b"a" * 9000, "The request target is too long."),
    ],
)
def test_a_target_that_may_not_go_up_is_a_400_and_no_record(guarded, target, message):
    client = RawClient(guarded)
    client.send(
        b"GET " + target + b" HTTP/1.1\r\nhost: e\r\nx-api-key: sk-master\r\nconnection: close\r\n\r\n"
    )
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    client.leave()
    error = msgspec.json.decode(body)["error"]
    assert (head.split(b"\r\n")[0], error) == (
        b"HTTP/1.1 400 Bad Request",
        {"type": "invalid_request_error", "message": message},
    )
    assert guarded.entries() == []


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT"])
def test_a_method_that_would_show_the_gateways_credential_is_a_405_and_no_record(method, guarded, upstream):
    seen = len(upstream.received)
    client = RawClient(guarded)
    client.send(
        method + b" /v1/models HTTP/1.1\r\nhost: e\r\nx-api-key: sk-master\r\nconnection: close\r\n\r\n"
    )
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    client.leave()
    assert (head.split(b"\r\n")[0], msgspec.json.decode(body)["error"]) == (
        b"HTTP/1.1 405 Method Not Allowed",
        {"type": "invalid_request_error", "message": "The gateway serves neither TRACE nor CONNECT."},
    )
    assert (guarded.entries(), len(upstream.received)) == ([], seen)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_claude_codes_probe_without_a_credential_is_greeted_here(method, guarded, upstream, client):
    """Claude Code asks before anybody has logged in; Anthropic answers it then too."""
    seen, before = len(upstream.received), refusals("no_credential")
    answer, body = exchange(client, method, guarded.base_url + "/anthropic/api/hello", {})
    assert (answer.status_code, answer.headers.raw, body) == (200, [(b"content-length", b"0")], b"")
    assert (guarded.entries(), len(upstream.received)) == ([], seen)
    assert refusals("no_credential") == before


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/anthropic/api/hello", {"x-api-key": "sk-other"}),
        ("POST", "/anthropic/api/hello", {}),
        ("GET", "/anthropic/api/hello/x", {}),
    ],
)
def test_nothing_but_that_probe_is_greeted(method, path, headers, guarded, client):
    assert exchange(client, method, guarded.base_url + path, headers)[0].status_code == 401


def test_the_base_path_and_the_gateways_token_go_before_what_was_asked(guarded, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    exchange(client, "GET", guarded.base_url + "/anthropic/v1/models?limit=1", KEYED)
    up = upstream.received[-1]
    assert (up.target, up.headers[-1]) == (b"/base/v1/models?limit=1", (b"authorization", b"Bearer token"))
    assert guarded.take_one().used.attribution.virtual_key_id == "master"


@pytest.mark.parametrize("framing", ["content-length", "chunked"])
def test_a_body_that_is_too_large_is_a_413_on_the_record(guarded, upstream, client, framing):
    seen = len(upstream.received)
    content = b"x" * 1001
    sent = content if framing == "content-length" else iter([content])
    answer, body = exchange(client, "POST", guarded.base_url + "/v1/messages", KEYED, sent)
    assert_refused(
        answer, body, 413, "request_too_large", "Request exceeds the maximum size that the gateway accepts."
    )
    exchanged = guarded.take_one()
    assert exchanged.used == usage_of(
        exchanged, outcome="refused", http_status=413, error_type="request_too_large"
    )
    assert exchanged.used.request_id == answer.headers["x-tollhouse-request-id"]
    assert len(upstream.received) == seen


def test_a_body_far_beyond_the_limit_is_answered_and_the_connection_goes_on(guarded, client):
    for _ in range(2):
        answer, _ = exchange(client, "POST", guarded.base_url + "/v1/messages", KEYED, bytes(8 << 20))
        assert answer.status_code == 413
    assert [exchanged.used.outcome for exchanged in guarded.take()] == ["refused", "refused"]


def test_a_body_as_large_as_the_limit_goes_up(guarded, upstream, client):
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    answer, _ = exchange(client, "POST", guarded.base_url + "/v1/messages", KEYED, b"x" * 1000)
    assert (answer.status_code, upstream.received[-1].body) == (200, b"x" * 1000)
    guarded.take_one()


def test_a_full_spool_is_a_503_and_what_was_open_still_ends(tmp_path, upstream, client):
    one_exchange = SpoolConfig(bytes_max=512)
    config = EdgeConfig(upstream=UpstreamConfig(base_url=upstream.base_url, api_key="k"), spool=one_exchange)
    upstream.reply_next(CannedReply(headers=((b"content-length", b"0"),)))
    with Edge(tmp_path, config) as edge:
        first, _ = exchange(client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, b"{}")
        exchanged = edge.take_one()
        second, body = exchange(client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, b"{}")
        ready, _ = exchange(client, "GET", edge.base_url + "/health/readiness", {})
        assert edge.take() == []
        assert (edge.gateway.exchange_seq, edge.gateway.open_exchanges) == (1, 0)
    assert (first.status_code, exchanged.used) == (200, usage_of(exchanged))
    message = "The gateway cannot record this request now; try again shortly."
    assert_refused(second, body, 503, "api_error", message, b"true", [b"5"])
    assert ready.status_code == 503
