"""Produces and consumes a topic with aiokafka or librdkafka and gives the seconds that it took."""

import asyncio
import random
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka import TopicPartition as Assigned
from confluent_kafka.admin import AdminClient, NewTopic

PARTITIONS = 4
# What both clients gather before they send: the publisher's own bound is of this size.
BATCH_BYTES = 256 * 1024
LINGER_MS = 20
POOL_RECORDS = 2_000  # different records, so that compression finds no repetition within a batch
RECORD_BYTES = 1_500
MEASURE_S_MAX = 180
QUEUE_MESSAGES_MAX = 20_000
POLL_S = 0.1
CONSUME_RECORDS = 1_000  # a call returns when it has as many, or after POLL_S
OPENING = b"{}"  # a record per partition before the clock starts: the client connects and finds the leaders
QUIET = {"log_level": 3}  # errors only


def make_records(seed: int) -> list[bytes]:
    """Make JSON as the gateway's is: names that repeat, ids that do not."""
    chance = random.Random(seed)
    return [_record(chance, number) for number in range(POOL_RECORDS)]


def create_topic(servers: str, topic: str) -> None:
    """Create a topic and wait until it has leaders."""
    admin = AdminClient({"bootstrap.servers": servers, **QUIET})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        made.result(MEASURE_S_MAX)
    deadline_s = time.monotonic() + MEASURE_S_MAX
    while not _has_leaders(admin, topic):
        assert time.monotonic() < deadline_s, f"{topic} has no leaders"
        time.sleep(POLL_S)


async def produce_with_aiokafka(servers: str, topic: str, records: Sequence[bytes], coding: str) -> float:
    """Send every record with acks=all; returns when each is acknowledged."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers,
        acks="all",
        enable_idempotence=True,
        compression_type=None if coding == "none" else coding,
        linger_ms=LINGER_MS,
        max_batch_size=BATCH_BYTES,
    )
    async with asyncio.timeout(MEASURE_S_MAX), producer:
        for partition in range(PARTITIONS):
            await producer.send_and_wait(topic, OPENING, partition=partition)
        began_s = time.monotonic()
        sent = [
            await producer.send(topic, record, partition=number % PARTITIONS)
            for number, record in enumerate(records)
        ]
        await asyncio.gather(*sent)
        return time.monotonic() - began_s


def produce_with_librdkafka(servers: str, topic: str, records: Sequence[bytes], coding: str) -> float:
    """Send every record with acks=all; returns when each is acknowledged."""
    errors: list[KafkaError] = []
    acknowledged = 0

    def note(error: KafkaError | None, _: Message) -> None:
        nonlocal acknowledged
        if error is None:
            acknowledged += 1
        else:
            errors.append(error)

    producer = Producer(
        {
            "bootstrap.servers": servers,
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": coding,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "queue.buffering.max.messages": QUEUE_MESSAGES_MAX,
            **QUIET,
        }
    )
    for partition in range(PARTITIONS):
        producer.produce(topic, OPENING, partition=partition)
    producer.flush(MEASURE_S_MAX)
    began_s = time.monotonic()
    for number, record in enumerate(records):
        _send(producer, topic, record, number % PARTITIONS, note)
    producer.flush(MEASURE_S_MAX)
    taken_s = time.monotonic() - began_s
    assert (acknowledged, errors) == (len(records), [])
    return taken_s


async def consume_with_aiokafka(servers: str, topic: str, count: int) -> float:
    """Read a topic from its beginning until so many records were seen."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    async with asyncio.timeout(MEASURE_S_MAX), consumer:
        began_s = time.monotonic()
        consumer.assign([TopicPartition(topic, partition) for partition in range(PARTITIONS)])
        seen = 0
        while seen < count:
            found = await consumer.getmany(timeout_ms=1_000)
            seen += sum(len(records) for records in found.values())
        return time.monotonic() - began_s


def consume_with_librdkafka(servers: str, topic: str, count: int) -> float:
    """Read a topic from its beginning until so many records were seen."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": f"bench-{uuid.uuid4().hex}", "enable.auto.commit": False}
    )
    began_s = time.monotonic()
    try:
        consumer.assign([Assigned(topic, partition, 0) for partition in range(PARTITIONS)])
        seen = 0
        while seen < count:
            assert time.monotonic() - began_s < MEASURE_S_MAX, f"only {seen} of {count} records came"
            seen += sum(
                message.error() is None
                for message in consumer.consume(min(CONSUME_RECORDS, count - seen), POLL_S)
            )
        return time.monotonic() - began_s
    finally:
        consumer.close()


def _has_leaders(admin: AdminClient, topic: str) -> bool:
    partitions = admin.list_topics(topic, MEASURE_S_MAX).topics[topic].partitions.values()
    return len(partitions) == PARTITIONS and all(partition.leader >= 0 for partition in partitions)


def _send(producer: Producer, topic: str, record: bytes, partition: int, note: Any) -> None:
    while True:
        try:
            producer.produce(topic, record, partition=partition, on_delivery=note)
        except BufferError:
            producer.poll(POLL_S)
        else:
            producer.poll(0)
            return


def _record(chance: random.Random, number: int) -> bytes:
    tokens = {
        f"{name}_tokens": chance.randrange(200_000)
        for name in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h", "thinking")
    }
    record = {
        "request_id": str(uuid.UUID(int=chance.getrandbits(128))),
        "started_at": f"2026-11-22T09:{number % 60:02}:{chance.randrange(60):02}.000000Z",
        "edge_id": str(uuid.UUID(int=chance.getrandbits(128))),
        "attribution": {
            "virtual_key_id": f"vk_{chance.randrange(50)}",
            "team_id": f"team_{chance.randrange(9)}",
            "end_user_id": f"user-{chance.randrange(100_000)}",
            "session_id": str(uuid.UUID(int=chance.getrandbits(128))),
        },
        "operation": "messages",
        "endpoint": "/v1/messages",
        "outcome": "completed",
        "model_served": chance.choice(("claude-opus-4-8", "claude-sonnet-4-8", "claude-haiku-4-5")),
        "message_id": f"msg_{chance.getrandbits(96):x}",
        "upstream_request_id": f"req_{chance.getrandbits(96):x}",
        "tokens": tokens,
        "usage": {**tokens, "service_tier": "standard", "server_tool_use": {"web_search_requests": 0}},
        "ttfb_ms": chance.randrange(3_000),
        "duration_ms": chance.randrange(60_000),
        "text": "",
    }
    words = ("usage", "of", "an", "exchange", "with", "the", "model", "counted", "priced", "stored", "kept")
    text: list[str] = []
    missing_bytes = RECORD_BYTES - len(msgspec.json.encode(record))
    while missing_bytes > 0:
        text.append(chance.choice(words))
        missing_bytes -= len(text[-1]) + 1
    record["text"] = " ".join(text)
    return msgspec.json.encode(record)
