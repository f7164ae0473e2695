"""`tollhouse tail` on a broker: a person sees what was rated, or one sentence that says why not."""

import asyncio
import os
import subprocess
import sys
import time

from schemas import codec
from services.cli.tail import COLUMNS
from services.rating.pricing import rate
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord
from services.runtime.topics import migrate_topics
from tests.integration.runtime.clients import publish
from tests.unit.rating.cases import BOOK, usage

RUN_S_MAX = 30
REFUSED_S_MAX = 10.0  # aiokafka by itself would look for the topic for 40


def tail(address, *options):
    foreign = ("KAFKA_", "CLICKHOUSE_", "ANTHROPIC_", "TOLLHOUSE_", "LITELLM_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "tail", *options],
        env={**environ, "KAFKA_BOOTSTRAP_SERVERS": address},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_kafka_without_the_topics_is_one_sentence_that_says_what_to_do(own_broker):
    began = time.monotonic()
    code, _, err = tail(own_broker.address)
    assert (code, err) == (
        2,
        f"tollhouse: Kafka at {own_broker.address} has no gateway.rated.v1: run `tollhouse migrate`.\n",
    )
    assert time.monotonic() - began < REFUSED_S_MAX


def test_rated_usage_is_a_line_each_and_what_is_none_says_so(own_broker):
    kafka = KafkaConfig(bootstrap_servers=own_broker.address)
    rated = rate(usage("claude-opus-5", tokens={"input_tokens": 1000, "output_tokens": 2}), BOOK)
    event = codec.encode(rated)
    asyncio.run(migrate_topics(kafka))
    asyncio.run(
        publish(kafka, [OutgoingRecord("gateway.rated.v1", b"vk_1", value, ()) for value in (event, b"{")])
    )
    options = ("--from-beginning", "--limit", "2")
    code, (columns, line, other), err = tail(own_broker.address, *options)
    assert (code, columns, err) == (0, COLUMNS, "")
    assert line.split() == [
        *("2026-11-22", "12:00:00.000", "vk_1", "messages", "claude-opus-5", "completed", "final"),
        *("1000", "0", "2", f"{rated.cost_usd.normalize():f}", rated.usage.request_id),
    ]
    assert other.startswith("(not a rated usage: ")
    assert tail(own_broker.address, "--json", *options) == (0, [event.decode(), "{"], "")
