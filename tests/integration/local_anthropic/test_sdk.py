"""The official SDK, unmodified, against the simulated API over a real socket."""

import asyncio

import anthropic
import pytest

from services.local.anthropic.server import SimulatedAnthropic

SENTENCE = "Tollhouse counted every token that passed the gate, once and only once."
ASK = {
    "model": "claude-haiku-4-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "What passed?"}],
}
WEATHER = {
    "name": "get_weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def upstream():
    with SimulatedAnthropic.in_thread() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def client(upstream):
    with anthropic.Anthropic(base_url=upstream.base_url, api_key="sk-any", max_retries=0) as client:
        yield client


def scripted(spec):
    return {"extra_headers": {"x-simulate": spec}}


def test_a_message_is_created(client):
    message = client.messages.create(**ASK)
    assert (message.model, message.content[0].text, message.stop_reason) == (
        "claude-haiku-4-5-20251001",
        SENTENCE,
        "end_turn",
    )
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 12)
    assert message._request_id.startswith("req_01")


def test_a_stream_adds_up_to_what_a_message_says(client):
    options = {"thinking": {"type": "adaptive"}, "tools": [WEATHER]} | scripted("output-tokens=100")
    ask = ASK | {"messages": [{"role": "user", "content": "Please use get_weather"}]}
    whole = client.messages.create(**ask, **options)
    with client.messages.stream(**ask, **options) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in streamed.content] == ["thinking", "text", "tool_use"]
    assert streamed.usage.output_tokens == 100
    ours = {"id", "content"}
    assert streamed.model_dump(exclude=ours) == whole.model_dump(exclude=ours)
    assert streamed.content[2].input == whole.content[2].input == {"city": "simulated"}


@pytest.mark.parametrize("kind", ["compaction", "advisor", "fallback", "message"])
def test_iterations_arrive_in_the_beta_types(client, kind):
    ask = ASK | scripted(f"iterations={kind}")
    whole = client.beta.messages.create(**ask)
    with client.beta.messages.stream(**ask) as stream:
        streamed = stream.get_final_message()
    assert whole.usage.iterations == streamed.usage.iterations
    assert whole.usage.iterations[-1].output_tokens > 0


def test_a_web_search_and_its_citation_arrive(client):
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    with client.messages.stream(**ASK, tools=tools, **scripted("web-searches=2")) as stream:
        message = stream.get_final_message()
    assert message.usage.server_tool_use.web_search_requests == 2
    assert message.content[-1].citations[0].url == "https://example.com/search/1/page/1"


def test_an_asynchronous_client_streams_from_a_server_in_its_own_loop():
    async def converse():
        async with (
            SimulatedAnthropic.running() as upstream,
            anthropic.AsyncAnthropic(base_url=upstream.base_url, api_key="k", max_retries=0) as client,
        ):
            async with client.messages.stream(**ASK) as stream:
                text = "".join([piece async for piece in stream.text_stream])
            count = await client.messages.count_tokens(model="claude-opus-5", messages=ASK["messages"])
            await upstream.until_finished(2)
            return text, count.input_tokens, [request.target for request in upstream.received]

    assert asyncio.run(converse()) == (SENTENCE, 3, [b"/v1/messages", b"/v1/messages/count_tokens"])


def test_the_models_are_listed_over_all_pages_and_found_by_alias(client):
    ids = [model.id for model in client.models.list(limit=3)]
    assert len(ids) == len(set(ids)) == 18
    assert client.models.retrieve("claude-opus-4-5").id == "claude-opus-4-5-20251101"


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("status=401", anthropic.AuthenticationError),
        ("status=429;retry-after=0", anthropic.RateLimitError),
        ("status=529", anthropic.InternalServerError),
        ("wrong", anthropic.BadRequestError),
    ],
)
def test_errors_arrive_as_the_sdk_names_them(client, spec, error):
    with pytest.raises(error) as raised:
        client.messages.create(**ASK, **scripted(spec))
    assert raised.value.response.headers["request-id"] == raised.value.request_id


def test_the_sdk_retries_what_fails_at_first(upstream):
    before = len(upstream.received)
    with anthropic.Anthropic(base_url=upstream.base_url, api_key="k", max_retries=2) as client:
        message = client.messages.create(**ASK, **scripted("status=429;retry-after=0;times=1"))
    attempts = [
        dict(request.headers)[b"x-stainless-retry-count"] for request in list(upstream.received)[before:]
    ]
    assert (message.usage.output_tokens, attempts) == (12, [b"0", b"1"])


def test_a_stream_that_fails_midway_raises(client):
    with (
        pytest.raises(anthropic.APIStatusError) as raised,
        client.messages.stream(**ASK, **scripted("error-event-after=5")) as stream,
    ):
        stream.until_done()
    assert raised.value.body["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize("spec", ["gzip", "deflate", "br", "chunk-bytes=1", "gzip;chunk-bytes=7"])
def test_however_the_bytes_come_the_sdk_reads_them(client, spec):
    with client.messages.stream(**ASK, **scripted(spec)) as stream:
        assert stream.get_final_text() == SENTENCE
    assert client.messages.create(**ASK, **scripted(spec)).content[0].text == SENTENCE
