"""The main job: an SDK pointed at Tollhouse works as ever, and SQL shows what it used and cost."""

import asyncio
import json
import subprocess
import sys
import uuid
from decimal import Decimal

import httpx
import pytest
from anthropic import Anthropic, AsyncAnthropic, NotFoundError
from confluent_kafka import Consumer

from schemas import codec
from schemas.rated import RatedUsage
from services.rating.book.file import load
from tests.e2e.conftest import ROOT, clean_environ

MODEL = "claude-sonnet-5-5"
ASK = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": "toll" * 100}]}


def tagged():
    """Metadata that finds the exchange again, and the tag it is found by."""
    tag = uuid.uuid4().hex
    return tag, {"litellm_metadata": {"tags": [tag], "user": "ada", "project": "bridge"}}


def usage_of(stack, tag, columns="outcome, usage_status, input_tokens, output_tokens, cost_status, cost_usd"):
    return stack.rows(f"SELECT {columns} FROM tollhouse.usage WHERE has(tags, '{tag}')", 1)


def test_the_sync_sdk_gets_its_answer_and_an_analyst_its_row(simulated_stack):
    tag, metadata = tagged()
    client = Anthropic(base_url=simulated_stack.base_url, api_key="sk-any")
    message = client.messages.create(
        **ASK, extra_body=metadata, extra_headers={"x-simulate": "output-tokens=50"}
    )
    assert message.usage.output_tokens == 50
    columns = (
        "virtual_key_id, end_user_id, tags, metadata, operation, endpoint, is_stream, model_requested, "
        "model_served, message_id, http_status, outcome, stop_reason, usage_status, input_tokens, "
        "output_tokens, cost_status, cost_usd, cost_lines, book_seq"
    )
    assert usage_of(simulated_stack, tag, columns) == [
        (
            "anonymous",
            "ada",
            [tag],
            {"project": "bridge"},
            "messages",
            "/v1/messages",
            False,
            MODEL,
            MODEL,
            message.id,
            200,
            "completed",
            "end_turn",
            "final",
            100,
            50,
            "priced",
            Decimal("0.0007"),
            {"input": Decimal("0.0002"), "output": Decimal("0.0005")},
            load().book_seq,
        )
    ]


def test_the_async_sdk_streams_as_it_would_from_anthropic(simulated_stack):
    tag, metadata = tagged()

    async def stream():
        async with (
            AsyncAnthropic(base_url=simulated_stack.base_url, auth_token="sk-any") as client,
            client.messages.stream(
                **ASK, extra_body=metadata, extra_headers={"x-simulate": "output-tokens=80"}
            ) as events,
        ):
            text = "".join([part async for part in events.text_stream])
            return text, await events.get_final_message()

    text, message = asyncio.run(stream())
    assert text and message.usage.output_tokens == 80
    assert usage_of(simulated_stack, tag) == [
        ("completed", "final", 100, 80, "priced", Decimal("0.001")),
    ]


def test_an_error_of_anthropic_reaches_the_sdk_as_it_is_and_costs_nothing(simulated_stack):
    tag, metadata = tagged()
    client = Anthropic(base_url=simulated_stack.base_url, api_key="sk-any", max_retries=0)
    with pytest.raises(NotFoundError) as caught:
        client.messages.create(**{**ASK, "model": "claude-nobody"}, extra_body=metadata)
    assert caught.value.type == "not_found_error"
    assert usage_of(simulated_stack, tag) == [("upstream_error", "none", 0, 0, "zero", Decimal(0))]


def test_the_request_id_in_the_answer_finds_the_row_and_its_request_and_response(simulated_stack):
    _, metadata = tagged()
    answer = httpx.post(
        f"http://127.0.0.1:{simulated_stack.port}/v1/messages", json={**ASK, **metadata}, trust_env=False
    )
    request_id = answer.headers["x-tollhouse-request-id"]
    assert answer.headers["x-litellm-call-id"] == request_id
    for view in ("usage", "requests", "responses"):
        query = (
            f"SELECT endpoint, toString(request_id) FROM tollhouse.{view} WHERE request_id = '{request_id}'"
        )
        assert simulated_stack.rows(query, 1) == [("/v1/messages", request_id)]


def test_a_foreign_kafka_client_reads_the_rated_usage(simulated_stack):
    tag, metadata = tagged()
    Anthropic(base_url=simulated_stack.base_url, api_key="sk-any").messages.create(**ASK, extra_body=metadata)
    consumer = Consumer(
        {
            "bootstrap.servers": simulated_stack.kafka,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe(["gateway.rated.v1"])
    try:
        record = _the_one_with(tag, consumer)
    finally:
        consumer.close()
    rated = codec.decode(RatedUsage, record.value())
    assert dict(record.headers())["ce_type"] == b"tollhouse.rated_usage.v1"
    assert record.key() == b"anonymous"
    assert rated.usage.attribution.end_user_id == "ada"


def _the_one_with(tag, consumer, polls=150):
    for _ in range(polls):
        record = consumer.poll(0.2)
        if record is not None and record.error() is None and tag.encode() in record.value():
            return record
    raise AssertionError("the rated usage did not come")


def test_tail_prints_rated_usage(simulated_stack):
    tag, metadata = tagged()
    Anthropic(base_url=simulated_stack.base_url, api_key="sk-any").messages.create(**ASK, extra_body=metadata)
    usage_of(simulated_stack, tag)
    argv = [sys.executable, "-m", "services.cli", "tail", "--json", "--from-beginning", "--limit", "1"]
    environ = clean_environ(KAFKA_BOOTSTRAP_SERVERS=simulated_stack.kafka)
    done = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["usage"]["attribution"]["virtual_key_id"] == "anonymous"


@pytest.mark.parametrize("step", [0, 1, 2])
def test_every_service_offers_probes_and_metrics(simulated_stack, step):
    base = f"http://127.0.0.1:{simulated_stack.port + step}"
    with httpx.Client(trust_env=False) as client:
        for path in ("/health/liveliness", "/health/liveness", "/health/readiness"):
            assert client.get(base + path).status_code == 200
        assert "python_info" in client.get(base + "/metrics").text
