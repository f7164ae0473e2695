"""Reads dead-letter topics, and sends what they hold back to where it came from; commits nothing.

That a record went back is said on the dead-letter topic itself, by a letter of the stage `redrive` under
the same key: it lies behind what it settles, is kept as long, and is seen by whoever reads the topic. A
crash between the record and that mark sends it twice, under its own id.
"""

# aiokafka annotates only part of its API.
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import codec
from schemas.dead_letters import REDRIVE, DeadLetter
from schemas.topics import DLQ_SUFFIX, all_topics, topic
from services.runtime.errors import ServiceStopped, StartRefused
from services.runtime.groupless import groupless
from services.runtime.kafka import KafkaConfig
from services.runtime.publisher import Publisher, PublishFailed
from services.runtime.records import OutgoingRecord

# What a person can still look through; of each only its place and reason is held.
LETTERS_MAX = 100_000
# Sent back, and marked, at a time.
CHUNK_LETTERS = 100
POLL_MS = 200
# Without a record and without an end: Kafka is not answering.
SILENCE_S_MAX = 30.0


class Position(NamedTuple):
    """Where the record lay that became a dead letter."""

    topic: str
    partition: int
    offset: int


class Place(NamedTuple):
    """Where a letter lies on its dead-letter topic."""

    topic: str
    partition: int
    offset: int


class Summary(NamedTuple):
    """A dead letter without what it holds; `redriven_at` is None while it waits for somebody."""

    position: Position
    place: Place
    stage: str
    error_class: str
    dead_at: datetime
    bytes: int
    redriven_at: datetime | None


class _Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    value: bytes | None


def dead_letter_topics(of: str = "") -> list[str]:
    """Name the dead-letter topics, or that of one topic; StartRefused where it has none."""
    names = [each.name for each in all_topics() if each.kind == "dead_letter"]
    if not of:
        return names
    wanted = of.removesuffix(DLQ_SUFFIX) + DLQ_SUFFIX
    if wanted not in names:
        known = ", ".join(name.removesuffix(DLQ_SUFFIX) for name in names)
        raise StartRefused(f"{of} keeps no dead letters; those that do are {known}.")
    return [wanted]


async def summaries(
    kafka: KafkaConfig, topics: Sequence[str], letters_max: int = LETTERS_MAX
) -> list[Summary]:
    """Give the latest of what is said of each position, oldest first; StartRefused beyond the limit."""
    found: dict[Position, Summary] = {}
    async for place, letter in letters(kafka, topics):
        position = Position(letter.topic, letter.partition, letter.offset)
        if letter.stage != REDRIVE:
            found.pop(position, None)  # the later of two has the later place
            found[position] = _summary(position, place, letter)
        elif position in found:
            found[position] = found[position]._replace(redriven_at=letter.dead_at)
        if len(found) > letters_max:
            raise StartRefused(f"there are more than {letters_max} dead letters: name one topic.")
    return sorted(found.values(), key=lambda each: each.dead_at)


async def redrive(kafka: KafkaConfig, chosen: Iterable[Summary]) -> AsyncIterator[int]:
    """Send records back where they lay, with their own bytes, key and headers; give how many are done so far.

    ServiceStopped where Kafka does not take one: those before it are sent and marked.
    """
    places = {each.place for each in chosen}
    publisher, done = Publisher(kafka), 0
    try:
        pending: list[DeadLetter] = []
        async for place, letter in letters(kafka, sorted({place.topic for place in places})):
            if place in places:
                pending.append(letter)
            if len(pending) >= CHUNK_LETTERS:
                await _sent_back(publisher, pending)
                done += len(pending)
                pending = []
                yield done
        await _sent_back(publisher, pending)
        yield done + len(pending)
    finally:
        await publisher.close()


async def letters(kafka: KafkaConfig, topics: Collection[str]) -> AsyncIterator[tuple[Place, DeadLetter]]:
    """Read dead-letter topics from their beginning to where they end now; pass over what is no letter."""
    async with _reader(kafka) as consumer:
        here = await consumer.topics()
        known = [name for name in topics if name in here]
        if topics and not known:
            raise StartRefused(
                f"Kafka at {kafka.bootstrap_servers} has no {min(topics)}: run `tollhouse migrate`."
            )
        async for record in _to_end(consumer, known):
            try:
                letter = codec.decode(DeadLetter, record.value)
            except codec.Undecodable:
                continue
            yield Place(record.topic, record.partition, record.offset), letter


@contextlib.asynccontextmanager
async def _reader(kafka: KafkaConfig) -> AsyncGenerator[AIOKafkaConsumer, None]:
    async with contextlib.AsyncExitStack() as held:
        try:
            consumer = await held.enter_async_context(groupless(kafka))
        except (KafkaError, OSError) as exc:
            raise StartRefused(f"cannot reach Kafka at {kafka.bootstrap_servers}: {exc}.") from exc
        try:
            yield consumer
        except (KafkaError, TimeoutError) as exc:
            raise StartRefused(
                f"Kafka at {kafka.bootstrap_servers} stopped answering: {type(exc).__name__}."
            ) from exc


async def _to_end(consumer: AIOKafkaConsumer, topics: Iterable[str]) -> AsyncIterator[_Record]:
    places = [TopicPartition(name, number) for name in topics for number in range(topic(name).partitions)]
    if not places:
        return
    consumer.assign(places)
    await consumer.seek_to_beginning(*places)
    left = _unread(await consumer.beginning_offsets(places), await consumer.end_offsets(places))
    while left:
        async with asyncio.timeout(SILENCE_S_MAX):
            polled = {}
            while not polled:
                polled = await consumer.getmany(timeout_ms=POLL_MS)
                left = {place: end for place, end in left.items() if await consumer.position(place) < end}
                if not left:
                    break
        for place, records in polled.items():
            for record in records:
                yield _Record(place.topic, place.partition, record.offset, record.value)


def _unread(
    begins: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    return {place: end for place, end in ends.items() if begins[place] < end}


def _summary(position: Position, place: Place, letter: DeadLetter) -> Summary:
    size = len(letter.value or b"")
    return Summary(position, place, letter.stage, letter.error_class, letter.dead_at, size, None)


async def _sent_back(publisher: Publisher, pending: Sequence[DeadLetter]) -> None:
    """Publish the records, and when they are acknowledged that they went."""
    try:
        refused = await publisher.publish(
            [OutgoingRecord(each.topic, each.key, each.value, each.headers) for each in pending]
        )
        if refused:
            raise ServiceStopped(
                f"Kafka does not take {len(refused)} of {len(pending)} records, being too large for "
                f"{refused[0].record.topic}; none of these is marked."
            )
        await publisher.publish([_mark(each) for each in pending])
    except PublishFailed as exc:
        raise ServiceStopped(f"{exc}. What is not marked is sent again when this is run again.") from exc


def _mark(letter: DeadLetter) -> OutgoingRecord:
    now = datetime.now(UTC)
    mark = DeadLetter(
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        stage=REDRIVE,
        error_class="Redriven",
        error=f"sent back; it was set aside by {letter.stage}",
        dead_at=now,
        key=letter.key,
        value=None,
    )
    return OutgoingRecord(
        letter.topic + DLQ_SUFFIX,
        codec.key(mark),
        codec.encode(mark),
        codec.headers(mark, now.isoformat()),
    )
