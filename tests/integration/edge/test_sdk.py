"""The official SDK notices nothing but a base URL, and everything it does is recorded."""

import asyncio

import anthropic
import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic

from schemas.attribution import Attribution
from schemas.usage import TokenCounts
from services.edge.config import EdgeConfig, UpstreamConfig
from services.edge.identity import own_key_id
from services.local.anthropic.server import SimulatedAnthropic
from tests.integration.edge.harness import Edge, exchange, usage_of

MASTER = "sk-master"
MODEL = "claude-sonnet-5-5"
ASKED = {"model": MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": "Tell me of tolls."}]}


@pytest.fixture(params=["/anthropic", "/anthropic/", ""], ids=["prefixed", "slash", "bare"])
def base_url(request, edge):
    return edge.base_url + request.param


@pytest.fixture
def sdk(base_url):
    with Anthropic(base_url=base_url, api_key="sk-caller", max_retries=0) as client:
        yield client


def called(exchanged):
    """What the SDK calls itself, as its user agent has it."""
    name, version = exchanged.started.client_user_agent.split(" ")
    assert version == anthropic.__version__
    return {"client_app": name, "client_version": version}


def spoken(exchanged, message, is_stream):
    """The usage record of a message that the SDK gave."""
    usage = message.usage
    return usage_of(
        exchanged,
        is_stream=is_stream,
        usage_status="final",
        model_requested=MODEL,
        model_served=message.model,
        message_id=message.id,
        stop_reason=message.stop_reason,
        upstream_request_id=exchanged.finished.upstream_request_id,
        tokens=TokenCounts(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens or 0,
            cache_write_5m_tokens=usage.cache_creation_input_tokens or 0,
        ),
        service_tier="standard",
        inference_geo=exchanged.used.inference_geo,
        speed=exchanged.used.speed,
        usage=exchanged.used.usage,
        attribution=Attribution(virtual_key_id="anonymous", **called(exchanged)),
    )


def test_a_message(sdk, edge):
    message = sdk.messages.create(**ASKED)
    exchanged = edge.take_one()
    assert exchanged.used == spoken(exchanged, message, False)
    assert exchanged.used.upstream_request_id == message._request_id


def test_a_stream(sdk, edge):
    with sdk.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    exchanged = edge.take_one()
    assert text == message.content[0].text
    assert exchanged.used == spoken(exchanged, message, True)


def test_messages_and_streams_side_by_side(edge):
    async def scene():
        async with AsyncAnthropic(base_url=edge.base_url, api_key="sk-caller", max_retries=0) as sdk:

            async def streamed():
                async with sdk.messages.stream(**ASKED) as stream:
                    return await stream.get_final_message()

            return await asyncio.gather(sdk.messages.create(**ASKED), streamed(), streamed())

    messages = {message.id: message for message in asyncio.run(scene())}
    exchanges = edge.take()
    assert len(exchanges) == len(messages) == 3
    for exchanged in exchanges:
        message = messages.pop(exchanged.used.message_id)
        assert exchanged.used == spoken(exchanged, message, exchanged.used.is_stream)
    numbers = [exchanged.used.exchange_seq for exchanged in exchanges]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_a_count_of_tokens(sdk, edge):
    counted = sdk.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    exchanged = edge.take_one()
    assert counted.input_tokens > 0
    assert exchanged.used == usage_of(
        exchanged,
        operation="count_tokens",
        endpoint="/v1/messages/count_tokens",
        model_requested=MODEL,
        upstream_request_id=counted._request_id,
    )


def test_the_list_of_models(sdk, edge):
    page = sdk.models.list(limit=3)
    exchanged = edge.take_one()
    assert len(page.data) == 3
    assert exchanged.used == usage_of(
        exchanged, operation="models", endpoint="/v1/models", upstream_request_id=page._request_id
    )


def test_an_error_is_the_one_that_anthropic_sent(sdk, edge):
    with pytest.raises(anthropic.RateLimitError) as caught:
        sdk.messages.create(**ASKED, extra_headers={"x-simulate": "status=429;retry-after=7"})
    exchanged = edge.take_one()
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    assert exchanged.used == usage_of(
        exchanged,
        outcome="upstream_error",
        http_status=429,
        error_type="rate_limit_error",
        model_requested=MODEL,
        upstream_request_id=caught.value.request_id,
    )


@pytest.mark.parametrize(
    ("cut", "usage_status"),
    [
        ("cut-after-events=4", "estimated"),
        ("cut-after-bytes=700", "partial"),
        ("cut-after-bytes=701", "partial"),
    ],
)
def test_a_stream_that_is_cut_raises_in_the_sdk(sdk, edge, cut, usage_status):
    with (
        pytest.raises(anthropic.APIStatusError, match="The Anthropic API closed the connection"),
        sdk.messages.stream(**ASKED, extra_headers={"x-simulate": cut}) as stream,
    ):
        stream.get_final_message()
    exchanged = edge.take_one()
    assert (exchanged.used.outcome, exchanged.used.usage_status) == ("upstream_cut", usage_status)
    assert exchanged.used.tokens.input_tokens > 0


def test_every_attempt_of_the_sdk_is_an_exchange_of_its_own(edge):
    with Anthropic(base_url=edge.base_url, api_key="sk-caller", max_retries=1) as sdk:
        sdk.messages.create(**ASKED, extra_headers={"x-simulate": "status=529;times=1;retry-after=0"})
    outcomes = [(exchanged.used.http_status, exchanged.used.outcome) for exchanged in edge.take()]
    assert outcomes == [(529, "upstream_error"), (200, "completed")]


def test_metadata_and_headers_are_booked_and_do_not_go_up(sdk, edge, upstream):
    sdk.messages.create(
        **ASKED,
        metadata={"user_id": "someone"},
        extra_body={"litellm_metadata": {"tags": ["b"], "job": "nightly", "session_id": "s"}},
        extra_headers={"x-litellm-tags": "a", "x-litellm-customer-id": "customer"},
    )
    exchanged = edge.take_one()
    assert exchanged.used.attribution == Attribution(
        **called(exchanged),
        virtual_key_id="anonymous",
        end_user_id="customer",
        session_id="s",
        tags=("a", "b"),
        metadata={"job": "nightly"},
    )
    assert b"litellm" not in upstream.received[-1].body
    assert [name for name, _ in upstream.received[-1].headers if name.lower().startswith(b"x-litellm")] == []


@pytest.fixture(scope="module")
def own_keys():
    with SimulatedAnthropic.in_thread(api_key="sk-ant-own") as simulated:
        yield simulated


@pytest.fixture(scope="module")
def keyed_edge(tmp_path_factory, own_keys):
    """An edge that has no credential of its own and a master key before it."""
    config = EdgeConfig(
        master_key=MASTER, own_key_hash_secret="pepper", upstream=UpstreamConfig(base_url=own_keys.base_url)
    )
    with Edge(tmp_path_factory.mktemp("keyed"), config) as running:
        yield running


@pytest.mark.parametrize("master_in", ["x-litellm-api-key", "authorization"])
def test_behind_a_master_key_the_callers_own_key_goes_up_and_is_booked_by_its_hash(
    keyed_edge, own_keys, master_in, client
):
    headers = {master_in: f"bearer {MASTER}", "x-api-key": "sk-ant-own", "anthropic-version": "2023-06-01"}
    answer, _ = exchange(client, "GET", keyed_edge.base_url + "/v1/models", headers)
    exchanged = keyed_edge.take_one()
    assert answer.status_code == 200
    assert exchanged.used.attribution == Attribution(virtual_key_id=own_key_id("sk-ant-own", "pepper"))
    sent = own_keys.received[-1]
    assert [each for each in sent.headers if each[0].lower() in (b"authorization", b"x-api-key")] == [
        (b"x-api-key", b"sk-ant-own")
    ]
    assert MASTER.encode() not in b"".join(value for _, value in sent.headers)


def test_no_key_stands_in_any_record(keyed_edge, client):
    headers = {"x-litellm-api-key": MASTER, "x-api-key": "sk-ant-own", "anthropic-version": "2023-06-01"}
    exchange(client, "GET", keyed_edge.base_url + "/v1/models", headers)
    keyed_edge.take()
    written = b"".join(record.value for *_, records in keyed_edge.entries() for record in records)
    assert (MASTER.encode() in written, b"sk-ant-own" in written) == (False, False)


def test_the_sdk_with_only_the_master_key_is_refused_where_nobody_has_a_credential(keyed_edge):
    with (
        Anthropic(base_url=keyed_edge.base_url, api_key=MASTER, max_retries=0) as sdk,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        sdk.messages.create(**ASKED)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert keyed_edge.take() == []


def test_health_is_answered_without_a_credential(edge):
    with httpx.Client(trust_env=False) as client:
        answer = client.get(edge.base_url + "/health/readiness")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready", "needs": {"spool": True}})
    assert edge.take() == []
