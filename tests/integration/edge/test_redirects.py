"""Whoever follows a redirect through the gateway comes back to it; its key goes nowhere else."""

import anthropic
import pytest
from anthropic import Anthropic
from prometheus_client import REGISTRY

from services.local.anthropic.reply import CannedReply
from tests.integration.edge.harness import ScriptedUpstream, exchange, usage_of
from tests.integration.edge.test_upstream_faults import gateway_error

MODELS = b'{"data":[],"has_more":false,"first_id":null,"last_id":null}'
JSON = (b"content-type", b"application/json")


@pytest.fixture
def elsewhere():
    """A server that nobody should visit."""
    server = ScriptedUpstream()
    yield server
    server.expect_nobody()
    server.close()


def redirect(location, status=307):
    headers = ((b"location", location.encode()), (b"content-length", b"4"), JSON)
    return CannedReply(status=status, headers=headers, chunks=(b"gone",))


@pytest.mark.parametrize("prefix", ["", "/anthropic"])
@pytest.mark.parametrize("written", ["{upstream}/v1/models?page=2", "/v1/models?page=2", "?page=2"])
def test_an_sdk_that_follows_comes_back_with_its_key(written, prefix, edge, upstream):
    upstream.reply_next(redirect(written.format(upstream=upstream.base_url)))
    upstream.reply_next(CannedReply(headers=(JSON,), chunks=(MODELS,)))
    with Anthropic(base_url=edge.base_url + prefix, api_key="sk-caller", max_retries=0) as sdk:
        assert sdk.models.list().data == []
    assert [each.target for each in list(upstream.received)[-2:]] == [b"/v1/models", b"/v1/models?page=2"]
    first, second = edge.take()
    assert (first.used.outcome, first.used.http_status) == ("completed", 307)
    assert (second.used.outcome, second.used.http_status) == ("completed", 200)


def test_all_else_of_a_redirect_stays_as_it_is(edge, upstream, client):
    upstream.reply_next(redirect("/v1/b", 302))
    answer, body = exchange(client, "POST", edge.base_url + "/v1/messages", {"x-api-key": "k"}, b"{}")
    request_id = edge.take_one().used.request_id.encode()
    assert (answer.status_code, body, answer.headers.raw) == (
        302,
        b"gone",
        [
            (b"location", edge.base_url.encode() + b"/v1/b"),
            (b"content-length", b"4"),
            JSON,
            (b"x-tollhouse-request-id", request_id),
            (b"x-litellm-call-id", request_id),
        ],
    )


def test_a_redirect_that_leads_elsewhere_is_withheld_and_nobody_is_visited(edge, upstream, elsewhere):
    before = REGISTRY.get_sample_value("edge_refusals_total", {"reason": "redirected_elsewhere"}) or 0
    upstream.reply_next(redirect(elsewhere.base_url + "/v1/models"))
    sdk = Anthropic(base_url=edge.base_url, api_key="sk-caller", max_retries=2)
    with sdk, pytest.raises(anthropic.InternalServerError) as raised:
        sdk.models.list()
    exchanged = edge.take_one()  # and not tried again
    message = (
        "The Anthropic API answered with a redirect that leads away from the gateway, and might send your "
        "key elsewhere: the answer is withheld."
    )
    assert raised.value.body == gateway_error("api_error", message, exchanged.used.request_id)
    assert (raised.value.status_code, raised.value.response.headers["x-should-retry"]) == (502, "false")
    assert "location" not in raised.value.response.headers
    assert exchanged.used == usage_of(
        exchanged,
        operation="models",
        endpoint="/v1/models",
        outcome="refused",
        http_status=502,
        error_type="api_error",
    )
    after = REGISTRY.get_sample_value("edge_refusals_total", {"reason": "redirected_elsewhere"})
    assert after == before + 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches/msgbatch_1/results"),
        ("GET", "/v1/files/file_1/content"),
        ("HEAD", "/v1/models"),
    ],
)
def test_it_is_withheld_whatever_was_asked_for(method, path, edge, upstream, client, elsewhere):
    upstream.reply_next(redirect(elsewhere.base_url + "/x", 303))
    content = b'{"requests":[]}' if method == "POST" else None
    answer, _ = exchange(client, method, edge.base_url + path, {"x-api-key": "k", "host": "gateway"}, content)
    assert (answer.status_code, "location" in answer.headers) == (502, False)
    assert edge.take_one().used.outcome == "refused"
