"""Opens consumers that belong to no group and commit nothing, and lets go of any consumer in bounded time."""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Literal

from aiokafka import AIOKafkaConsumer

from services.runtime.errors import StartRefused
from services.runtime.kafka import KafkaConfig

Begin = Literal["earliest", "latest"]
"""Where a partition is read from: its oldest record, or what comes from now on."""

START_S_MAX = 30.0
# For saying goodbye; a group that does not hear it finds out by the session's time-out.
LEAVE_S_MAX = 5.0


@contextlib.asynccontextmanager
async def groupless(
    kafka: KafkaConfig, begin: Begin = "earliest", poll_records_max: int | None = None
) -> AsyncGenerator[AIOKafkaConsumer]:
    """Open a consumer for a block; KafkaError or OSError where Kafka is away, TimeoutError being one.

    It is assigned its partitions in the block. Where it begins is said here and not by a seek, which races
    with the reset of the position, that goes to the end by default.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=kafka.client_id,
        request_timeout_ms=kafka.request_timeout_ms,
        enable_auto_commit=False,
        auto_offset_reset=begin,
        max_poll_records=poll_records_max,
    )
    try:
        await _started(consumer)
        yield consumer
    finally:
        await let_go(consumer)


async def _started(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(START_S_MAX):
            await consumer.start()
    except TimeoutError as exc:
        raise TimeoutError(f"no answer within {START_S_MAX:.0f} s") from exc


async def require_topic(consumer: AIOKafkaConsumer, kafka: KafkaConfig, topic: str) -> None:
    """Refuse to go on without a topic: a consumer that is given its name would look for it for 40 s."""
    if topic not in await consumer.topics():
        raise StartRefused(f"Kafka at {kafka.bootstrap_servers} has no {topic}: run `tollhouse migrate`.")


async def let_go(consumer: AIOKafkaConsumer) -> bool:
    """Stop a consumer, started or not; False where Kafka did not hear its goodbye."""
    # In a task of its own: with Kafka away, stop() raises the cancellation of a task of its own.
    leaving = asyncio.create_task(consumer.stop())
    await asyncio.wait({leaving}, timeout=LEAVE_S_MAX)
    if leaving.done() and not leaving.cancelled() and leaving.exception() is None:
        return True
    leaving.cancel()
    await consumer._client.close()  # pyright: ignore[reportPrivateUsage] - what stop() left open
    return False
