"""Publishes records to Kafka and returns when every one of them is acknowledged; never on a client's path.

Records travel in batches per topic-partition that are built here: one `send_batch` costs a tenth of the
`send` calls that it replaces. Batches of one call are written in the order of its records.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import time
from collections.abc import Sequence
from functools import lru_cache

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from services.runtime import metrics
from services.runtime.kafka import KafkaConfig
from services.runtime.records import OutgoingRecord

# Half of Kafka's default max.message.bytes: a batch is compressed after it is filled, and may not grow.
BATCH_BYTES_MAX = 512 * 1024
# Keys whose hash is remembered; an exchange publishes two records under one request id.
KEY_HASHES_MAX = 4096
STOP_S_MAX = 5.0
# Above aiokafka's own time-outs, which do not cover every wait of a broker that is away.
PUBLISH_S_MAX = 60.0

log = structlog.get_logger(__name__)

_Future = asyncio.Future[RecordMetadata]


class PublishFailed(Exception):
    """Not every record was acknowledged: publish all of them again; their ids make that harmless."""


class Publisher:
    """An idempotent producer (acks=all) that is made anew after a failure."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, records: Sequence[OutgoingRecord]) -> None:
        """Write the records and wait for every acknowledgement; PublishFailed where one did not come."""
        if not records:
            return
        try:
            async with asyncio.timeout(PUBLISH_S_MAX):
                async with self._connecting:
                    producer = await self._connected()
                waiting = await _send(producer, records)
                await asyncio.gather(*waiting)
        except (KafkaError, OSError, TimeoutError, AssertionError) as exc:
            metrics.publisher_failures.inc()
            await self.close()
            raise PublishFailed(f"{type(exc).__name__}: {exc}") from exc
        metrics.publisher_records.inc(len(records))

    async def close(self) -> None:
        """Let go of the connection; records that were not acknowledged stay with the caller."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await asyncio.wait_for(producer.stop(), STOP_S_MAX)
        except (KafkaError, OSError, TimeoutError) as exc:
            log.warning("publisher.close_failed", error=type(exc).__name__)
            # A sender that is left alone would deliver later, behind what its successor has delivered.
            await producer._sender.close()  # pyright: ignore[reportPrivateUsage] - stop() has no other end
            await producer.client.close()

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._config.bootstrap_servers,
                client_id=self._config.client_id,
                acks="all",
                enable_idempotence=True,
                compression_type="zstd",
                max_batch_size=BATCH_BYTES_MAX,
                request_timeout_ms=self._config.request_timeout_ms,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer


def partition_of(key: bytes | None, partitions: int) -> int:
    """Choose the partition of a key as Kafka's Java clients do (murmur2); keyless records go to the first."""
    return 0 if key is None else _hash(key) % partitions


@lru_cache(maxsize=KEY_HASHES_MAX)
def _hash(key: bytes) -> int:
    return murmur2(key) & 0x7FFF_FFFF


async def _send(producer: AIOKafkaProducer, records: Sequence[OutgoingRecord]) -> list[_Future]:
    """Fill batches and hand each over as it fills up; the rest at the end."""
    open_batches: dict[tuple[str, int], BatchBuilder] = {}
    waiting: list[_Future] = []
    now_ms = time.time_ns() // 1_000_000
    for record in records:
        known = await producer.partitions_for(record.topic)
        place = (record.topic, partition_of(record.key, len(known)))
        batch = open_batches.get(place) or producer.create_batch()
        if not _added(batch, record, now_ms):
            waiting.append(await producer.send_batch(batch, place[0], partition=place[1]))
            batch = producer.create_batch()
            _added(batch, record, now_ms)
        open_batches[place] = batch
    for (topic, partition), batch in open_batches.items():
        waiting.append(await producer.send_batch(batch, topic, partition=partition))
    return waiting


def _added(batch: BatchBuilder, record: OutgoingRecord, now_ms: int) -> bool:
    added = batch.append(timestamp=now_ms, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None
