"""A consumer process as an operator and a subscriber meet it: probes, metrics, and rated events."""

import asyncio
import contextlib
import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal

import confluent_kafka
import httpx
import msgspec
import pytest

from schemas import codec
from schemas.dead_letters import DeadLetter
from schemas.rated import RatedUsage
from schemas.topics import RATED, USAGE
from services.local.ports import free_ports
from services.rating.handler import RatingStage
from services.rating.pricing import rate
from services.runtime.consumer import ConsumerConfig
from services.runtime.consumer_service import run_consumer
from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig
from services.runtime.listener import bind
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from tests.integration.runtime import brokers
from tests.integration.runtime.clients import (
    EchoStage,
    committed,
    new_topic,
    outgoing,
    publish,
    read,
    run,
    until_async,
)
from tests.unit.rating.cases import BOOK, usage

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
READ_S_MAX = 15.0
PUBLISHED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def served(stage, kafka, group, store_is_available=lambda: True):
    """Run a consumer process's whole inside and give an HTTP client of its probes."""
    port, stopping = free_ports(1), asyncio.Event()
    config = ConsumerConfig(group_id=group)
    task = asyncio.create_task(
        run_consumer(stage, config, kafka, ("127.0.0.1", port), stopping, store_is_available)
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        stopping.set()
        await task


async def answer(client, path):
    reply = await client.get(path)
    return reply.status_code, reply.json()


def test_it_is_ready_once_the_group_has_it_and_alive_all_along(own_broker):
    async def test():
        kafka = KafkaConfig(bootstrap_servers=own_broker.address, request_timeout_ms=1_000)
        stage = EchoStage(await new_topic(kafka))
        own_broker.kill()
        async with served(stage, kafka, "g") as client:
            assert await answer(client, "/health/readiness") == (
                503,
                {"status": "not ready", "needs": {"kafka": False, "store": True}},
            )
            assert await answer(client, "/health/liveness") == (200, {"status": "alive"})
            assert await answer(client, "/health/liveliness") == (200, {"status": "alive"})
            await asyncio.to_thread(own_broker.start)
            await until_async(lambda: _is_status(client, 200))
            assert await answer(client, "/health/readiness") == (
                200,
                {"status": "ready", "needs": {"kafka": True, "store": True}},
            )

    run(test())


async def _is_status(client, status) -> bool:
    return (await client.get("/health/readiness")).status_code == status


def test_it_is_not_ready_while_its_store_is_away(kafka):
    async def test():
        store = {"is_available": True}
        stage = EchoStage(await new_topic(kafka))
        async with served(stage, kafka, f"g-{uuid.uuid4().hex}", lambda: store["is_available"]) as client:
            await until_async(lambda: _is_status(client, 200))
            store["is_available"] = False
            assert await answer(client, "/health/readiness") == (
                503,
                {"status": "not ready", "needs": {"kafka": True, "store": False}},
            )

    run(test())


def test_the_scrape_counts_records_dead_letters_and_offsets(kafka):
    async def test():
        topic, group = await new_topic(kafka), f"g-{uuid.uuid4().hex}"
        await brokers.create_topic(kafka.bootstrap_servers, f"{topic}.dlq")
        await publish(kafka, outgoing(topic, 3))
        async with served(EchoStage(topic, poison=frozenset((b"1",))), kafka, group) as client:
            await until_async(
                lambda: _says(client, f'consumer_records_total{{stage="echo",topic="{topic}"}} 3.0')
            )
            assert await _says(client, f'consumer_dead_letters_total{{stage="echo",topic="{topic}"}} 1.0')
            assert await _says(
                client, f'consumer_committed_offset{{partition="0",stage="echo",topic="{topic}"}} 3.0'
            )
            reply = await client.get("/metrics")
            assert reply.headers["content-type"].startswith("text/plain; version=")
        assert await committed(kafka, group) == {0: 3}

    run(test())


async def _says(client, line) -> bool:
    return line in (await client.get("/metrics")).text.splitlines()


def test_a_port_that_is_taken_is_refused_before_the_group_is_joined(kafka):
    async def test():
        with contextlib.closing(bind("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(
                StartRefused, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"
            ):
                await run_consumer(
                    EchoStage("t"), ConsumerConfig(group_id="g"), kafka, ("127.0.0.1", port), asyncio.Event()
                )

    run(test())


def subscribed(address, count):
    """Read rated events as a program would that has never heard of Tollhouse's code."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"downstream-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([RATED])
    found = []
    try:
        while len(found) < count:
            message = consumer.poll(READ_S_MAX)
            assert message is not None, "nothing more came"
            assert message.error() is None, message.error()
            found.append((message.key(), message.headers(), message.value()))
    finally:
        consumer.close()
    return found


def test_usage_becomes_rated_events_that_a_third_party_reads(own_broker):
    kafka = KafkaConfig(bootstrap_servers=own_broker.address)
    facts = [
        usage(
            "claude-opus-5",
            request_id=f"01940000-0000-7000-8000-{number:012d}",
            tokens={"input_tokens": 1000},
        )
        for number in range(3)
    ]

    async def test():
        await migrate_topics(kafka)
        records = [
            OutgoingRecord(
                USAGE,
                codec.key(fact),
                codec.encode(fact),
                codec.headers(fact, "2026-11-22T12:00:05Z", TRACEPARENT),
            )
            for fact in facts
        ]
        await publish(kafka, [*records, OutgoingRecord(USAGE, b"vk_1", b"{not JSON", ())])
        stage = RatingStage(BOOK)
        stage.begin(PUBLISHED_AT)
        async with served(stage, kafka, "rating"):
            (dead,) = await read(kafka, f"{USAGE}.dlq", 1)
            assert codec.decode(DeadLetter, dead.value).value == b"{not JSON"
            return await asyncio.to_thread(subscribed, own_broker.address, len(facts))

    found = asyncio.run(asyncio.wait_for(test(), 30))
    expected = [rate(fact, BOOK) for fact in facts]
    rated = [codec.decode(RatedUsage, value) for _, _, value in found]
    assert all(each.booked_at is not None and each.booked_at > PUBLISHED_AT for each in rated)
    assert [msgspec.structs.replace(each, booked_at=None) for each in rated] == expected
    assert [(key, headers) for key, headers, _ in found] == [
        (
            b"vk_1",
            [
                ("ce_specversion", b"1.0"),
                ("ce_id", rated.rated_id.encode()),
                ("ce_type", b"tollhouse.rated_usage.v1"),
                ("ce_source", f"/rating/{BOOK.label}".encode()),
                ("ce_time", b"2026-11-22T12:00:00Z"),
                ("ce_subject", rated.usage.request_id.encode()),
                ("ce_dataschema", b"urn:tollhouse:schema:rated_usage:v1"),
                ("content-type", b"application/json"),
                ("traceparent", TRACEPARENT.encode()),
            ],
        )
        for rated in expected
    ]
    # Decimals are strings: a reader in any language keeps them exact.
    assert Decimal(json.loads(found[0][2])["cost_usd"]) == expected[0].cost_usd
