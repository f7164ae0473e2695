"""Publishes records to Kafka and returns when every one of them is acknowledged; never on a client's path.

Records travel in batches per topic-partition that are built here: one `send_batch` costs a tenth of the
`send` calls that it replaces. Batches of one call are written in the order of its records.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
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

TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""What a broker says of a batch that it will not take however often it is asked."""

_Sent = tuple[list[OutgoingRecord], BaseException | None]
_Waiting = tuple[list[OutgoingRecord], asyncio.Future[RecordMetadata]]


class Refused(NamedTuple):
    """A record that Kafka can never take as it is, and what it said."""

    record: OutgoingRecord
    error_class: str


class PublishFailed(Exception):
    """Not every record was acknowledged: publish all of them again; their ids make that harmless."""


class Publisher:
    """An idempotent producer (acks=all) that is made anew after a failure."""

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def publish(self, records: Sequence[OutgoingRecord]) -> list[Refused]:
        """Write the records, wait for every acknowledgement, and give those that Kafka can never take.

        PublishFailed where an acknowledgement did not come: nothing is known of any of the records then.
        """
        refused: list[Refused] = []
        # A record that is too large takes its batch with it, and each batch behind that one in its partition:
        # what is left of them is sent again, in order, the batch in halves until the record is alone.
        pending = deque([list(records)] if records else [])
        while pending:
            group = pending.popleft()
            sent = await self._published(group)
            again: list[list[OutgoingRecord]] = []
            for batch, error in sent:
                if isinstance(error, TOO_LARGE) and len(batch) == 1:
                    refused.append(Refused(batch[0], type(error).__name__))
                elif isinstance(error, TOO_LARGE):
                    middle = len(batch) // 2
                    again += [batch[:middle], batch[middle:]]
                elif error is not None:
                    again.append(batch)
            pending.extendleft(reversed(again))
        metrics.publisher_records.inc(len(records) - len(refused))
        for each in refused:
            metrics.publisher_refused_records.labels(each.record.topic).inc()
        return refused

    async def _published(self, records: Sequence[OutgoingRecord]) -> list[_Sent]:
        """Write the records once and say of each batch what kept it, if anything; some are too large then."""
        try:
            async with asyncio.timeout(PUBLISH_S_MAX):
                async with self._connecting:
                    producer = await self._connected()
                waiting = await _send(producer, records)
                answers = await asyncio.gather(*(answer for _, answer in waiting), return_exceptions=True)
            errors = [answer if isinstance(answer, BaseException) else None for answer in answers]
            first = next((error for error in errors if error is not None), None)
            if first is not None and not any(isinstance(error, TOO_LARGE) for error in errors):
                raise first
        except (KafkaError, OSError, TimeoutError, AssertionError) as exc:
            metrics.publisher_failures.inc()
            await self.close()
            raise PublishFailed(f"{type(exc).__name__}: {exc}") from exc
        if first is not None:
            await self.close()  # this producer's numbering has a hole, where the refused batch would be
        return [(batch, error) for (batch, _), error in zip(waiting, errors, strict=True)]

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


async def _send(producer: AIOKafkaProducer, records: Sequence[OutgoingRecord]) -> list[_Waiting]:
    """Fill batches and hand each over as it fills up; the rest at the end."""
    open_batches: dict[tuple[str, int], tuple[BatchBuilder, list[OutgoingRecord]]] = {}
    waiting: list[_Waiting] = []
    now_ms = time.time_ns() // 1_000_000
    for record in records:
        place = (record.topic, partition_of(record.key, await _partitions(producer, record.topic)))
        batch, held = open_batches.get(place) or (producer.create_batch(), [])
        if not _added(batch, record, now_ms):
            waiting.append((held, await producer.send_batch(batch, place[0], partition=place[1])))
            batch, held = producer.create_batch(), []
            _added(batch, record, now_ms)
        held.append(record)
        open_batches[place] = (batch, held)
    for (topic, partition), (batch, held) in open_batches.items():
        waiting.append((held, await producer.send_batch(batch, topic, partition=partition)))
    return waiting


async def _partitions(producer: AIOKafkaProducer, topic: str) -> int:
    try:
        return len(await producer.partitions_for(topic))
    except UnknownTopicOrPartitionError as exc:
        raise UnknownTopicOrPartitionError(f"Kafka has no topic {topic}: run `tollhouse migrate`") from exc


def _added(batch: BatchBuilder, record: OutgoingRecord, now_ms: int) -> bool:
    added = batch.append(timestamp=now_ms, key=record.key, value=record.value, headers=list(record.headers))
    return added is not None
